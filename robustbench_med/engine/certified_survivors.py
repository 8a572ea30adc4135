"""Prove what cheap searches leave standing, and spend the expensive ones on the rest."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.components import made
from robustbench_med.engine.validity_sample import decides, harm_of, task_objective
from robustbench_med.errors import InputError, IntegrityError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.probes import Attack, Certifier
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

log = logging.getLogger(__name__)

AttackAsked = str | Mapping[str, object] | Attack
CertifierAsked = str | Mapping[str, object] | Certifier


@dataclass(frozen=True)
class CertifiedSurvivors:
    """Search cheaply, certify what withstood, and search on only where nothing is proved.

    As many cases are broken as by `first` and `tail` in turn on everything, if the proofs are
    proofs: no search breaks a certified case. A case keeps, of the images found, the one that
    breaks it, or else that of the highest task loss; a certified one has been searched less, so
    its metrics other than `correct` are less of a worst case. Where the certifier does not support
    the model or the ball, nothing is certified and every case is searched to the end.

    Attributes:
        certifier: A proof, not a statement with a probability: by name, as a table, or itself.
        first: Cheap attacks, in turn, each on what is left; by name, as tables, or themselves.
        tail: Expensive ones, on what is neither broken nor certified.
        check: Share of the certified cases, drawn case by case, that `tail` searches all the same.
    """

    certifier: CertifierAsked
    first: Sequence[AttackAsked] = ("pgd",)
    tail: Sequence[AttackAsked] = ("autoattack",)
    check: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "certifier", _certifier(self.certifier))
        if getattr(self.certifier, "statistical", False):
            raise InputError(
                "certified_survivors: certifier must be one that proves, got a statement with a "
                f"probability about the smoothed model: {self.certifier!r}"
            )
        object.__setattr__(self, "first", _attacks("first", self.first))
        object.__setattr__(self, "tail", _attacks("tail", self.tail))
        share: object = self.check
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not (math.isfinite(self.check) and 0 <= self.check <= 1):
            raise InputError(f"certified_survivors: check must be from 0 to 1, got {share!r}")

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """See `Attack`; raises what the attacks raise, and the following.

        Raises:
            UnsupportedError: If the task has no decision on a whole case.
            IntegrityError: If a search breaks a certified case.
        """
        if not decides(model.task):
            raise UnsupportedError(
                "certified_survivors: needs a task of classification or multilabel, got "
                f"{model.task.kind}; use the attacks themselves"
            )
        if ball.eps == 0:
            return batch.image
        worst = _Worst(model, batch, ball, rng)
        for attack in _attacks("first", self.first):
            worst.search(attack, ~worst.wrong)
        proved = self._proved(model, batch, ball, rng, ~worst.wrong)
        drawn = rng.child("check").uniform().to(batch.image) < self.check
        asked = ~proved | drawn
        for attack in _attacks("tail", self.tail):
            worst.search(attack, asked & ~worst.wrong)
        lies = (proved & worst.wrong).nonzero().flatten().tolist()
        if lies:
            raise IntegrityError(
                f"certified_survivors: case {batch.case_ids[lies[0]]!r}: {self.certifier!r} proved "
                f"that nothing in {ball} breaks it, and a search did"
            )
        return worst.image

    def _proved(
        self, model: Model, batch: Batch, ball: Ball, rng: CaseRng, standing: Tensor
    ) -> Tensor:
        """Which of the cases that stand are certified, `(b,)`."""
        proved = torch.zeros_like(standing)
        rows = standing.nonzero().flatten()
        if len(rows):
            left = rows_of(batch, rows)
            streams = CaseRng(rng.seed, f"{rng.name}/proof", left.case_ids)
            try:
                values = _certifier(self.certifier)(model, left, ball, streams)
            except UnsupportedError as error:
                log.info("certified_survivors: nothing is certified: %s", error)
            else:
                proved[rows] = values["certified"].to(batch.image) >= 1
        return proved


class _Worst:
    """The worst image known of each case, while searches come and go."""

    def __init__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> None:
        self.model, self.batch, self.ball, self.rng = model, batch, ball, rng
        self.image, self.turn = batch.image.clone(), 0
        self.wrong = self._is_wrong(batch, batch.image)
        # Any image that was searched for counts before the clean one of a case that stands.
        self.loss = torch.full_like(self.wrong, -math.inf, dtype=torch.float64)

    def search(self, attack: Attack, asked: Tensor) -> None:
        """Let `attack` search the cases that are `asked`, `(b,)`."""
        # Streams of its own by turn, so that what it draws does not depend on what went before.
        name, self.turn = f"{self.rng.name}/{self.turn}", self.turn + 1
        rows = asked.nonzero().flatten()
        if not len(rows):
            return
        left = rows_of(self.batch, rows)
        found = attack(self.model, left, self.ball, CaseRng(self.rng.seed, name, left.case_ids))
        found = self.ball.stored(found.detach(), left.image, left.context)
        with torch.no_grad():
            loss = self.model.task.loss(self.model(found, left.context), left.target).double()
        wrong = self._is_wrong(left, found)
        better = wrong | (loss > self.loss[rows])
        per_image = better.view(-1, *[1] * (found.ndim - 1))
        self.image[rows] = found.where(per_image, self.image[rows])
        self.loss[rows] = loss.where(better, self.loss[rows])
        self.wrong[rows] = wrong

    def _is_wrong(self, batch: Batch, image: Tensor) -> Tensor:
        harm = harm_of(self.model, batch, image, task_objective)
        return harm.to(image.device) > 0


def _certifier(asked: object) -> Certifier:
    certifier: Certifier = made("certifiers", "certified_survivors: certifier", asked)
    return certifier


def _attacks(name: str, asked: object) -> tuple[Attack, ...]:
    if isinstance(asked, (str, Mapping)) or not isinstance(asked, Sequence) or not asked:
        raise InputError(f"certified_survivors: {name} must be a list of attacks, got {asked!r}")
    return tuple(made("attacks", f"certified_survivors: {name}", one) for one in asked)


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Return the cases at some positions of a batch."""
    ids = tuple(batch.case_ids[row] for row in rows.tolist())
    context = {name: value[rows] for name, value in batch.context.items()}
    return Batch(ids, batch.image[rows], batch.target[rows], context)
