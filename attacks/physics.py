"""The worst parameters of a shift: quasi-random points, then CMA-ES, then the slope."""

import importlib.util
from dataclasses import dataclass
from typing import Literal, get_args

from robustbench_med.attacks.evolution import evolve
from robustbench_med.attacks.objective import Asked, resolved
from robustbench_med.attacks.parameters import Question, climb, middle, sobol
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.model import Model
from robustbench_med.searching import Apply, Parameters, Ranges
from robustbench_med.streams import CaseRng

Stage = Literal["sobol", "cma", "gradient"]
LEAST = 8


@dataclass(frozen=True)
class Physics:
    """Search a shift's parameters for those under which a case's objective is highest.

    Each case is searched by itself. The middle of the box and Sobol points take half of the
    budget; from the worst of them CMA-ES takes a quarter, in whole generations, and the slope in
    the parameters the rest. A stage that is left out, and the slope where shift or model have
    none, leaves its share to the one before it. A heuristic, like every attack: there may be worse.

    Attributes:
        budget: Evaluations of the model per case, at least 8; with a slope or without.
        stages: Which to use, of "sobol", "cma" and "gradient"; the first always.
        objective: What to raise: the name or the table of a listed objective, or one itself.
    """

    budget: int = 64
    stages: tuple[Stage, ...] = get_args(Stage)
    objective: Asked = "task"

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", resolved(self.objective))
        require_budget("physics", self.budget)
        stages: object = self.stages  # a plan's text is no list
        listed = isinstance(stages, (list, tuple)) and "sobol" in stages
        if not listed or not {*self.stages} <= {*get_args(Stage)}:
            raise InputError(
                f"physics: stages must be sobol and any of cma and gradient, got {self.stages!r}"
            )
        object.__setattr__(self, "stages", tuple(self.stages))
        if "cma" in self.stages and importlib.util.find_spec("cma") is None:
            raise InputError(
                "physics: the stage cma needs a package: pip install 'robustbench-med[physics]'; "
                'or leave it out: stages = ["sobol", "gradient"]'
            )

    def __call__(
        self, model: Model, batch: Batch, ranges: Ranges, apply: Apply, rng: CaseRng
    ) -> Parameters:
        """See `Search`."""
        question = Question(model, len(batch), ranges, apply, resolved(self.objective))
        found = middle(question)
        if not question.axes:
            return question.parameters(found.point)
        climbs = "gradient" in self.stages and question.slope(found.point) is not None
        ascent = self.budget // 4 if climbs else 0
        crowd = self.budget // 2 - ascent if "cma" in self.stages else 0
        asked = 1 + ("gradient" in self.stages)
        found = sobol(question, found, self.budget - ascent - crowd - asked, rng)
        if crowd:
            found, used = evolve(question, found, crowd, rng)
            ascent += crowd - used if climbs else 0
        if climbs:
            found = climb(question, found, ascent)
        return question.parameters(found.point)


def require_budget(who: str, budget: object) -> None:
    """Refuse a budget too small to search with; `InputError`."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < LEAST:
        raise InputError(f"{who}: budget must be a whole number, at least {LEAST}, got {budget!r}")
