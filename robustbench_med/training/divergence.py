"""Losses and weights that stop being numbers: found, and told with step and cases."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.training.distributed import Processes

SHOWN = 3


class DivergedError(InputError):
    """The loss or the weights stopped being numbers; checkpoints of before are untouched."""


@dataclass(frozen=True)
class _Seen:
    """Losses `(b,)` that a batch had before a step."""

    step: int
    batch: Batch
    losses: Tensor


@dataclass
class Watch:
    """Adds an epoch's losses up, and looks at them now and then: to look is to wait for a device.

    Attributes:
        epoch: Counted from 1.
        processes: All of them stop if one finds something.
        total: Sum of this process's losses that were looked at.
    """

    epoch: int
    processes: Processes
    total: float = 0.0
    _waiting: list[_Seen] = field(default_factory=list, repr=False)

    def add(self, step: int, batch: Batch, losses: Tensor) -> None:
        """Note the losses `(b,)` that a batch had before step `step`, counted from 1."""
        self._waiting.append(_Seen(step, batch, losses))

    def look(self) -> None:
        """Add up what waits.

        Raises:
            DivergedError: If a loss is no number, in any process.
            InputError: If that is because an image holds NaN or infinity.
        """
        waiting, self._waiting = self._waiting, []
        losses = torch.cat([seen.losses for seen in waiting]).tolist() if waiting else []
        self.total += math.fsum(losses) if all(map(math.isfinite, losses)) else math.nan
        found = None if math.isfinite(self.total) else _problem(self.epoch, waiting)
        for problem in filter(None, self.processes.gathered(found)):
            raise problem


def refuse_lost_weights(network: nn.Module, epoch: int) -> None:
    """Raise `DivergedError` if the last step of an epoch left weights that are no numbers."""
    finite = [tensor.isfinite().all() for tensor in network.parameters()]
    if not torch.stack(finite).all():
        raise DivergedError(f"training diverged at epoch {epoch}, last step: a weight is no number")


def _problem(epoch: int, waiting: list[_Seen]) -> InputError:
    """The first step whose loss is no number, and its cases."""
    seen = next(s for s in waiting if not s.losses.isfinite().all())
    wrong = [n for n, loss in enumerate(seen.losses.tolist()) if not math.isfinite(loss)]
    names = [repr(seen.batch.case_ids[n]) for n in wrong]
    for name, n in zip(names, wrong, strict=True):
        if not seen.batch.image[n].isfinite().all():
            return InputError(f"case {name}: image: expected finite voxels, got NaN or infinity")
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return DivergedError(
        f"training diverged at epoch {epoch}, step {seen.step}: loss is "
        f"{seen.losses[wrong[0]].item()} for {'cases' if len(names) > 1 else 'case'} "
        f"{', '.join(names[:SHOWN])}{more}"
    )
