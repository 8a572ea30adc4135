"""What a defence is."""

from typing import Protocol

from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.streams import CaseRng


class Defence(Protocol):
    """Replaces each training batch by a harder one; the model is in evaluation mode."""

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Batch:
        """Return the batch to learn from, same cases in the same order."""
        ...
