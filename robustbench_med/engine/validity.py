"""Is an attack to be believed? A panel of checks and a verdict, to stand beside its figure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch

from robustbench_med.cases import Batch
from robustbench_med.engine.validity_checks import Check, Limits
from robustbench_med.engine.validity_questions import Answers, Questions, Searches
from robustbench_med.engine.validity_sample import (
    Objective,
    Trials,
    decides,
    sample_of,
    task_objective,
)
from robustbench_med.errors import EvidenceError
from robustbench_med.model import Model
from robustbench_med.probes import Attack
from robustbench_med.threat import Ball

Verdict = Literal["valid", "suspect", "masked", "unchecked"]


@dataclass(frozen=True)
class Panel:
    """Checks of one attack on one model, and what they add up to.

    Attributes:
        attack: What was checked, as its qualified name.
        ball: Where, in words.
        raises: What it raises, in words: harm is compared between attacks that raise the same.
        cases: Their ids, all right without an attack where the task has a decision.
        broken: Those that the attack breaks, by their number; none without a decision.
        breakable: Those that it or another search of the panel breaks in the same ball; likewise.
        decides: Whether an answer to the task is right or wrong as a whole.
        checks: In the order of the documentation; none of images that were given.
        limits: When they speak up.
    """

    attack: str
    ball: str
    raises: str
    cases: tuple[str, ...]
    broken: tuple[int, ...]
    breakable: tuple[int, ...]
    decides: bool
    checks: tuple[Check, ...]
    limits: Limits

    @property
    def n(self) -> int:
        """How many cases."""
        return len(self.cases)

    @property
    def withstood(self) -> float:
        """Share of the cases that the attack does not break; NaN without a decision."""
        return 1 - len(self.broken) / self.n if self.decides else math.nan

    @property
    def at_most(self) -> float:
        """Share that no search of the panel breaks in the same ball; NaN without a decision."""
        return 1 - len(self.breakable) / self.n if self.decides else math.nan

    @property
    def verdict(self) -> Verdict:
        """The worst that any check says; not `valid` on too few cases."""
        said = {check.says for check in self.checks}
        if not said:
            return "unchecked"
        if "masked" in said:
            return "masked"
        return "suspect" if "suspect" in said or self.n < self.limits.least else "valid"

    @property
    def why(self) -> str:
        """One line: the verdict and what speaks for it."""
        if self.verdict == "unchecked":
            return "unchecked: its images were given; nothing was searched that could be checked"
        if self.verdict == "valid":
            asked = sum(check.says != "not asked" for check in self.checks)
            return f"valid: {asked} checks on {self.n} cases found nothing against the attack"
        spoke = [c for word in ("masked", "suspect") for c in self.checks if c.says == word]
        raised = [f"{c.name} ({c.said})" for c in spoke]
        few = f"{self.n} cases are too few to say, {self.limits.least} are needed"
        return f"{self.verdict}: {'; '.join(raised or [few])}"


def panel(  # noqa: PLR0913
    model: Model,
    batches: Iterable[Batch],
    attack: Attack,
    ball: Ball,
    searches: Searches,
    limits: Limits | None = None,
    *,
    size: int = 64,
    seed: int = 0,
) -> Panel:
    """Ask whether what `attack` does not find in `ball` may be taken for robustness.

    Costs about as much as ten runs of the attack on `size` cases. The global random state is left
    as it was. A model whose answers are random is asked with one fixed seed.

    Args:
        model: Under test.
        batches: Cases; the first `size` that the model gets right are used.
        attack: Whose figure is judged; also what is run on the surrogate.
        ball: Where it searches; eps above 0.
        searches: What to compare it with.
        limits: When a check speaks up.
        size: Cases to use at most.
        seed: Of every search.

    Raises:
        EvidenceError: If the model gets no case right: an attack has nothing to break.
        UnsupportedError: If the attack does not fit the task.
    """
    limits = limits or Limits()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trials = _trials(model, batches, attack, ball, size, seed)
        answers = Questions(trials, attack, ball, searches, limits)()
    return _made(trials, attack, ball, answers, limits)


def without_checks(
    model: Model, batches: Iterable[Batch], attack: Attack, ball: Ball, *, size: int, seed: int
) -> Panel:
    """Say only what `attack` breaks, of images that no search of ours found; as `panel` else."""
    trials = _trials(model, batches, attack, ball, size, seed)
    harm = trials("attack", attack, ball)
    return _made(trials, attack, ball, Answers((), harm, harm), Limits())


def _trials(
    model: Model, batches: Iterable[Batch], attack: Attack, ball: Ball, size: int, seed: int
) -> Trials:
    if ball.eps == 0:
        raise EvidenceError("validity: eps is 0, where no attack can do anything")
    sample = sample_of(model, batches, size, _objective_of(attack))
    if not len(sample):
        raise EvidenceError("validity: the model gets no case right, so none can be attacked")
    return Trials(model, sample, seed)


def _made(trials: Trials, attack: Attack, ball: Ball, answers: Answers, limits: Limits) -> Panel:
    decided = decides(trials.model.task)
    broken, breakable = (
        tuple(torch.nonzero(harm != 0).flatten().tolist()) if decided else ()
        for harm in (answers.harm, answers.worst)
    )
    ids = tuple(case_id for batch in trials.sample.batches for case_id in batch.case_ids)
    return Panel(
        type(attack).__qualname__, str(ball), _raises(attack), ids, broken, breakable, decided,
        answers.checks, limits,
    )  # fmt: skip


def scaled(attack: Attack, factor: float) -> Attack | None:
    """Return the attack with `factor` times its steps or queries; None if it has neither."""
    for name in ("steps", "queries"):
        count = getattr(attack, name, None)
        if isinstance(count, int):
            settings: dict[str, Any] = {name: max(1, round(count * factor))}
            return cast("Attack", replace(cast("Any", attack), **settings))
    return None


def _raises(attack: Attack) -> str:
    objective = getattr(attack, "objective", None)
    if not callable(objective):
        return "TaskLoss()"  # as an attack says that names it
    return str(getattr(objective, "__qualname__", None) or repr(objective))


def _objective_of(attack: Attack) -> Objective:
    objective = getattr(attack, "objective", None)
    return cast("Objective", objective) if callable(objective) else task_objective
