"""Attack first, and prove only what withstood: what is broken need not be bounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.components import made
from robustbench_med.engine.certified_survivors import rows_of
from robustbench_med.engine.validity_sample import decides, harm_of, task_objective
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.probes import Attack, Certified, Certifier, Values
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


@dataclass(frozen=True)
class AttackedFirst:
    """Put attacks to every case, and the certifier to those that none of them breaks.

    Certifiers search a little themselves; an attack searches better. A case that is broken is
    `falsified`, and nothing else is known of it.

    Attributes:
        certifier: A proof: by name, as a table, or itself.
        attacks: In turn, each on what is left; by name, as tables, or themselves.
    """

    certifier: str | Mapping[str, object] | Certifier
    attacks: Sequence[str | Mapping[str, object] | Attack] = ("pgd",)

    def __post_init__(self) -> None:
        asked: object = self.attacks
        if isinstance(asked, (str, Mapping)) or not isinstance(asked, Sequence) or not asked:
            raise InputError(f"attacked_first: attacks must be a list of attacks, got {asked!r}")
        certifier = made("certifiers", "attacked_first: certifier", self.certifier)
        if getattr(certifier, "statistical", False):
            raise InputError(
                "attacked_first: certifier must be a proof, got one with a probability"
            )
        attacks = tuple(made("attacks", "attacked_first: attacks", each) for each in asked)
        object.__setattr__(self, "certifier", certifier)
        object.__setattr__(self, "attacks", attacks)

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier`; raises what attacks and certifier raise.

        Raises:
            UnsupportedError: If the task has no decision on a whole case.
        """
        if not decides(model.task):
            raise UnsupportedError(
                "attacked_first: needs a task of classification or multilabel, got "
                f"{model.task.kind}; use the certifier itself"
            )
        wrong = self._broken(model, batch, ball, rng)
        left = (~wrong).nonzero().flatten()
        nothing = torch.zeros(len(batch))
        values = {"certified": nothing, "falsified": wrong.float().cpu(), "undecided": nothing}
        if not len(left):
            return values
        rows = rows_of(batch, left)
        streams = CaseRng(rng.seed, f"{rng.name}/proof", rows.case_ids)
        certifier: Certifier = self.certifier  # type: ignore[assignment]
        found = certifier(model, rows, ball, streams)
        for name, value in found.items():
            # Of a case that is broken other values are not known.
            start = values.get(name, torch.full((len(batch),), torch.nan))
            values[name] = start.index_copy(0, left.cpu(), value.to(start))
        return Certified(values, getattr(found, "certificates", ()))

    def _broken(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Tensor:
        """Which cases are wrong without an attack or under one, `(b,)`."""
        wrong = harm_of(model, batch, batch.image, task_objective) > 0
        for turn, attack in enumerate(self.attacks):
            left = (~wrong).nonzero().flatten()
            if not len(left) or ball.eps == 0:
                break
            rows = rows_of(batch, left)
            search: Attack = attack  # type: ignore[assignment]
            image = search(
                model, rows, ball, CaseRng(rng.seed, f"{rng.name}/{turn}", rows.case_ids)
            )
            image = ball.stored(image.detach(), rows.image, rows.context)
            wrong[left] = (harm_of(model, rows, image, task_objective) > 0).to(wrong.device)
        return wrong
