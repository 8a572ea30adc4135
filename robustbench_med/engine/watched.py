"""A model that notes what an attack asks of it, and what its gradients are worth."""

import torch
from torch import Tensor, nn

from robustbench_med.cases import Bounds, Task
from robustbench_med.engine.validity_sample import NUMBER
from robustbench_med.model import Context, Model


class Watched:
    """Answers as `model` does, and counts per case of a sample.

    Attributes:
        model: Who answers.
        asked: Answers, `(n,)`.
        gradients: Gradients in the image that were computed, of whatever was raised, `(n,)`.
        empty: Those that were exactly zero, or not finite, `(n,)`.
    """

    def __init__(self, model: Model, size: int) -> None:
        self.model = model
        self.asked, self.gradients, self.empty = torch.zeros(3, size, dtype=torch.int64)

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

    @property
    def budget(self) -> int:
        """Forward and backward passes that the attack spent on a case, at most."""
        return int((self.asked + self.gradients).max())

    @property
    def blind(self) -> Tensor:
        """Cases whose gradients were empty nine times in ten or more, `(n,)`."""
        blind: Tensor = (self.gradients > 0) & (10 * self.empty >= 9 * self.gradients)
        return blind

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """See `Model`."""
        rows = (context or {}).get(NUMBER)
        if rows is None or len(rows) != len(image):
            return self.model(image, context)
        rows = rows.cpu()
        one = torch.ones_like(rows)
        self.asked.index_add_(0, rows, one)
        if image.requires_grad:

            def note(gradient: Tensor) -> None:
                flat = gradient.detach().flatten(start_dim=1)
                empty = ~((flat != 0).any(dim=1) & flat.isfinite().all(dim=1))
                self.gradients.index_add_(0, rows, one)
                self.empty.index_add_(0, rows, empty.to(one))

            image.register_hook(note)  # type: ignore[no-untyped-call]
        return self.model(image, context)
