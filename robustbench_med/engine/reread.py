"""A model of which only the answers are changed."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from robustbench_med.cases import Bounds, Task
from robustbench_med.model import Context, Model


@dataclass(frozen=True)
class Reread:
    """Answers in another way; all else is the model's own.

    Attributes:
        model: Under test.
        answer: Makes the answer of the model, images `(b, c, *s)` and their context.
    """

    model: Model
    answer: Callable[[Model, Tensor, Context], Tensor]

    @property
    def task(self) -> Task:
        """See `Model`."""
        return self.model.task

    @property
    def bounds(self) -> Bounds:
        """See `Model`."""
        return self.model.bounds

    @property
    def network(self) -> nn.Module | None:
        """The model's own, if it has one, for attacks that look into it."""
        return getattr(self.model, "network", None)

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """See `Model`."""
        return self.answer(self.model, image, context or {})
