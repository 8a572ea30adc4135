"""The worst of many random parameters of a shift: the control of every search over them."""

from dataclasses import dataclass

from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.attacks.parameters import Question, middle
from robustbench_med.attacks.physics import require_budget
from robustbench_med.cases import Batch
from robustbench_med.model import Model
from robustbench_med.searching import Apply, Parameters, Ranges
from robustbench_med.streams import CaseRng


@dataclass(frozen=True)
class RandomDraws:
    """Draw parameters uniformly in their ranges, and keep the worst; the middle comes first.

    A search that finds nothing worse with the same budget is not worth its name.

    Attributes:
        budget: Evaluations of the model per case, at least 8.
        objective: What to raise: the name or the table of a listed objective, or one itself.
    """

    budget: int = 64
    objective: Asked = "task"

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", resolved(self.objective))
        require_budget("random_draws", self.budget)

    def __call__(
        self, model: Model, batch: Batch, ranges: Ranges, apply: Apply, rng: CaseRng
    ) -> Parameters:
        """See `Search`."""
        question = Question(model, len(batch), ranges, apply, resolved(self.objective))
        found = middle(question)
        for _ in range(self.budget - 1):
            point = rng.uniform(len(question.axes))
            found = found.or_worse(point, question.badness(point))
        return question.parameters(found.point)
