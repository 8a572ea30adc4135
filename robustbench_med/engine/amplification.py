"""How much more an adversary changes an answer than random noise of the same size."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.probes import Attack, Probe, Values
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

ANSWERS = ("regression", "reconstruction", "super_resolution")


def amplified(name: str, attack: Attack, ball: Ball, draws: int = 20) -> Probe:
    """Measure how far `attack` moves the answers from the clean ones, against random noise.

    The answer is compared with the model's own clean one, not with the truth, so `attack` needs a
    start other than the clean image: `power`, or `pgd` as it is.

    Values of the probe, `(b,)` each:
        amplification: Worst change over that of random noise; NaN where noise changes nothing.
        amplification.worst: l2 norm of the worst change of the answer.
        amplification.random: Root mean square of that norm over random noise as long, in the
            ball's norm, as what the attack found: signs under linf, else Gaussian; where the ball
            has a support, on it, and projected into the bounds.
        amplification.gain: Worst change over the l2 norm of the perturbation; of a linear
            model, at most its largest singular value.

    Args:
        name: Of the attack, for the probe's name.
        attack: What searches; it raises the task's loss.
        ball: Where.
        draws: Of random noise per case, at least 1.

    Raises:
        InputError: If `draws` is no whole number of at least 1.
    """
    asked: object = draws
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise InputError(f"amplified: draws must be a whole number, at least 1, got {draws!r}")
    label = f"amplified {name}[{ball}]"
    return Probe(label, "attack", ball.eps, _Amplified(attack, ball, draws))


@dataclass(frozen=True)
class _Amplified:
    attack: Attack
    ball: Ball
    draws: int

    def __call__(self, model: Model, batch: Batch, rng: CaseRng) -> Values:
        if model.task.kind not in ANSWERS:
            raise UnsupportedError(
                f"amplified: needs a task of {' or '.join(ANSWERS)}, got {model.task.kind}"
            )
        with torch.no_grad():
            clean = model(batch.image, batch.context)
        still = Batch(batch.case_ids, batch.image, clean, batch.context)
        found = self.attack(model, still, self.ball, rng)
        found = self.ball.stored(found.detach(), batch.image, batch.context)
        worst = _moved(model, still, found)
        noise = rng.child("noise")
        squares = [
            _moved(model, still, self._noisy(batch, found, noise)).square()
            for _ in range(self.draws)
        ]
        random = torch.stack(squares).mean(dim=0).sqrt()
        length = per_case_norm(found.double() - batch.image.double(), "l2").flatten()
        return {
            "amplification": (worst / random).where(random > 0, torch.nan),
            "amplification.worst": worst,
            "amplification.random": random,
            "amplification.gain": (worst / length).where(length > 0, torch.nan),
        }

    def _noisy(self, batch: Batch, found: Tensor, rng: CaseRng) -> Tensor:
        noise = rng.normal_like(batch.image)
        if self.ball.norm == "linf":
            noise = noise.sign()
        if self.ball.support is not None:
            noise = noise.where(batch.context[self.ball.support] != 0, 0)
        size = per_case_norm(noise, self.ball.norm).clamp(min=torch.finfo(noise.dtype).tiny)
        length = per_case_norm(found - batch.image, self.ball.norm)
        return self.ball.stored(batch.image + noise * length / size, batch.image, batch.context)


@torch.no_grad()
def _moved(model: Model, batch: Batch, image: Tensor) -> Tensor:
    """How far the answer lies from the batch's target, in l2, `(b,)`, float64."""
    change = model(image, batch.context).double() - batch.target.double()
    return per_case_norm(change, "l2").flatten()
