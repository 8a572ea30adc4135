"""What an attack asks of a model, and what the gradients that it gets are worth."""

import torch
from torch import Tensor

from robustbench_med.engine.reread import Reread
from robustbench_med.engine.validity_sample import NUMBER
from robustbench_med.model import Context, Model


class Watched:
    """Counts of each case of a sample.

    Attributes:
        model: To be attacked: answers as the model under test does, and is counted.
        asked: Answers, `(n,)`.
        gradients: Gradients in the image that were computed, of whatever was raised, `(n,)`.
        empty: Those that were exactly zero, or not finite, `(n,)`.
    """

    def __init__(self, model: Model, size: int) -> None:
        self.model = Reread(model, self._counted)
        self.asked, self.gradients, self.empty = torch.zeros(3, size, dtype=torch.int64)

    @property
    def budget(self) -> int:
        """Forward and backward passes that the attack spent on a case, at most."""
        return int((self.asked + self.gradients).max())

    @property
    def blind(self) -> Tensor:
        """Cases whose gradients were empty nine times in ten or more, `(n,)`."""
        blind: Tensor = (self.gradients > 0) & (10 * self.empty >= 9 * self.gradients)
        return blind

    def _counted(self, model: Model, image: Tensor, context: Context) -> Tensor:
        rows = context.get(NUMBER)
        if rows is None or len(rows) != len(image):
            return model(image, context)
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
        return model(image, context)
