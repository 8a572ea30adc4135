"""The questions that a panel asks about one attack, each answered by running searches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_med.engine.large_ball import large_ball
from robustbench_med.engine.planted_model import plant
from robustbench_med.engine.validity_checks import (
    Check,
    Limits,
    Says,
    answers_vary,
    counted,
    not_asked,
    rugged,
    searches_inside,
)
from robustbench_med.engine.validity_sample import Trials, harm_of
from robustbench_med.engine.watched import Watched
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.probes import Attack
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

ITSELF = ("fewer_steps", "more_steps", "seed", "half_radius")
"""Comparisons of the attack with itself: they show that it is too short, not what it cannot see."""


MOST_DRAWS = 1000
"""Of the random search beside an attack: more of them find hardly more, and ensembles ask 10,000
times."""


@dataclass(frozen=True)
class Searches:
    """What an attack is compared with. Components come in as objects; None is not asked.

    Attributes:
        weaker: The same attack with fewer steps.
        stronger: The same attack with more steps.
        random: Makes a random search of so many queries.
        black_box: Sees answers only.
        surrogate: Another model for the same task, to craft images on.
    """

    weaker: Attack | None = None
    stronger: Attack | None = None
    random: Callable[[int], Attack] | None = None
    black_box: Attack | None = None
    surrogate: Model | None = None


@dataclass(frozen=True)
class Answers:
    """What was found.

    Attributes:
        checks: In the order of the documentation.
        harm: What the attack does, `(n,)`.
        worst: The most that it or any other search does in the same ball, `(n,)`.
    """

    checks: tuple[Check, ...]
    harm: Tensor
    worst: Tensor


@dataclass(frozen=True)
class Questions:
    """Asks them of one attack in one ball.

    Attributes:
        trials: Runs searches on the sample.
        attack: Whose figure is judged.
        ball: Where.
        searches: What to compare it with.
        limits: When a check speaks up.
    """

    trials: Trials
    attack: Attack
    ball: Ball
    searches: Searches
    limits: Limits

    def __call__(self) -> Answers:
        """Ask them all.

        Raises:
            UnsupportedError: If the attack does not fit the task.
        """
        watched = Watched(self.trials.model, len(self.trials.sample))
        checks = [self._same_answer(), self._no_search_inside()]
        try:
            harm = self.trials("attack", self.attack, self.ball, on=watched.model)
            checks += self._gradients(watched, harm)
        except UnsupportedError as error:
            if self._any_gradient():
                raise
            harm = self.trials.sample.clean
            every = torch.ones(len(harm), dtype=torch.bool)
            checks.append(counted("gradient", every, self.limits, f"nothing to follow: {error}"))
        others, worst = self._others(max(1, watched.budget), harm)
        checks += [*others, self._large_ball(), self._planted()]
        return Answers(tuple(checks), harm, worst)

    def _same_answer(self) -> Check:
        vary = torch.cat([answers_vary(self.trials.model, b) for b in self.trials.sample.batches])
        why = ("the model answers the same image in two ways; if at random, attack it with `eot`; "
               "if by what was asked before, mend it")  # fmt: skip
        return counted("repeat", vary, self.limits, why, worst="suspect")

    def _no_search_inside(self) -> Check:
        batch = self.trials.sample.batches[0]
        inside = searches_inside(self.trials.model, batch)
        every = torch.full((len(self.trials.sample),), inside)
        why = "the model differentiates while it answers, and may undo what the attack does"
        return counted("inner_search", every, self.limits, why, worst="suspect")

    def _gradients(self, watched: Watched, harm: Tensor) -> Iterator[Check]:
        if not watched.gradients.any():
            for name in ("gradient", "linearity"):
                yield not_asked(name, "the attack asks for no gradient")
            return
        model, sample = self.trials.model, self.trials.sample
        open_cases = sample.unbroken(harm, model.task)
        yield counted(
            "gradient", watched.blind & open_cases, self.limits,
            "withstood, while its gradient was zero or not finite",
        )  # fmt: skip
        pairs = [
            rugged(model, batch, self.ball, sample.objective, self.limits.rise)
            for batch in sample.batches
        ]
        rough, told = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        yield counted(
            "linearity", rough & open_cases, self.limits,
            "withstood, while its loss does not rise along its own slope", worst="suspect",
            asked=told,
        )  # fmt: skip

    def _others(self, budget: int, harm: Tensor) -> tuple[list[Check], Tensor]:
        """Other searches, and the worst of all: what they alone find, the figure overstates."""
        given, attack = self.searches, self.attack
        half = replace(self.ball, eps=self.ball.eps / 2)
        equal = None if given.random is None else given.random(min(budget, MOST_DRAWS))
        crafted = None if given.surrogate is None else attack
        checks, worst = [], harm
        for name, search, ball, on, why in (
            ("fewer_steps", given.weaker, self.ball, None, "broken with fewer steps"),
            ("more_steps", given.stronger, self.ball, None, "broken with more steps"),
            ("seed", attack, self.ball, None, "broken with another seed"),
            ("half_radius", attack, half, None, "broken within half the radius"),
            ("random", equal, self.ball, None, "broken by as many random draws"),
            ("black_box", given.black_box, self.ball, None, "broken by answers alone"),
            ("transfer", crafted, self.ball, given.surrogate, "broken by way of another model"),
        ):
            if search is None:
                checks.append(not_asked(name, "nothing given to compare with"))
                continue
            try:
                other = self.trials(name, search, ball, on=on)
            except (UnsupportedError, InputError) as error:  # a surrogate of another build, say
                checks.append(not_asked(name, str(error)))
                continue
            worst = worst.maximum(other)
            missed = self.trials.sample.found_more(harm, other, self.limits.slack)
            gravest: Says = "suspect" if name in ITSELF else "masked"
            said = f"{why}, not by the attack"
            checks.append(counted(name, missed, self.limits, said, worst=gravest))
        return checks, worst

    def _large_ball(self) -> Check:
        found = large_ball(self.trials, self.ball)
        if found is None:
            return not_asked("large_ball", "found no ball in which every case must break")
        ball, witness, sure = found
        try:
            harm = self.trials("large_ball", self.attack, ball)
        except UnsupportedError as error:
            return not_asked("large_ball", str(error))
        missed = self.trials.sample.found_more(harm, witness, self.limits.slack)
        why = f"withstood {ball}, which holds an image that breaks it"
        return counted("large_ball", missed, self.limits, why, asked=sure)

    def _planted(self) -> Check:
        model, seed = self.trials.model, self.trials.seed
        if model.task.kind != "classification":
            return not_asked("planted", f"not made for {model.task.kind}")
        missed, planted = [], []
        for batch in self.trials.sample.batches:
            rng = CaseRng(seed, "validity/planted", batch.case_ids)
            changed, cases, possible = plant(model, batch, self.ball, rng)
            try:
                found = self.attack(changed, cases, self.ball, rng.child("attack")).detach()
            except UnsupportedError as error:
                return not_asked("planted", str(error))
            found = self.ball.stored(found, batch.image, batch.context)
            harm = harm_of(changed, cases, found, self.trials.sample.objective)
            missed.append(harm == 0)
            planted.append(possible.cpu())
        why = "an adversarial example planted in a copy of the model was not found"
        return counted("planted", torch.cat(missed), self.limits, why, asked=torch.cat(planted))

    def _any_gradient(self) -> bool:
        """Whether the task's loss depends on the image in PyTorch's graph."""
        batch = self.trials.sample.batches[0]
        with torch.enable_grad():
            image = batch.image.detach().requires_grad_()
            loss = self.trials.model.task.loss(
                self.trials.model(image, batch.context), batch.target
            ).sum()
            if not loss.requires_grad:
                return False
            (gradient,) = torch.autograd.grad(loss, image, allow_unused=True)
        return gradient is not None
