"""Prove how large the error of a reconstructed or refined image can become in a ball."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch
from robustbench_med.certify.audit import POINTS, audit, sampled
from robustbench_med.certify.fixed_form import fixed_form
from robustbench_med.certify.image_limits import RUNGS, ErrorLimits, Upto, error_limits
from robustbench_med.certify.lowering import Lowered, lowered
from robustbench_med.certify.margin import and_negated, identity_rows
from robustbench_med.certify.region import Region, region
from robustbench_med.certify.written import input_set
from robustbench_med.errors import CaseError, InputError, IntegrityError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.probes import Values
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

KINDS = ("reconstruction", "super_resolution")


@dataclass(frozen=True)
class ImageError:
    """Bound the error of a reconstruction or a super-resolution over a ball, and prove it.

    For errors of acquired k-space samples the ball has `support = "mask"`. `nmse_limit` is proved
    to be no less than the NMSE of any image that the network gives in the ball; `worst_pixel_limit`
    no less than the modulus of any voxel's error. `nmse_clean` is the NMSE at the clean image. All
    of them count errors of phase, as `nmse_complex` does; the metric `nmse`, of magnitudes, is
    never above. `certified`: `nmse_limit` is at most `limit`; `falsified`: `nmse_clean` is
    already above it; `undecided`: neither, **not** "attackable".

    Proved in real arithmetic of the network in its fixed form, rounding of the proof accounted
    for; inference in float32 differs by its own rounding. Cost grows fast with the image: see
    `docs/certifier.md`.

    Attributes:
        limit: The NMSE that is to be kept. 1 is that of an image of zeros.
        upto: Last rung of the ladder: "ibp", "crown_ibp" or "crown". Only the last says much of
            a network with data consistency.
        most_values: Numbers in an image, and in any of the network's layers, at most; larger
            ones are unsupported before any work is done on them. Time grows with about the square
            of it: a minute for 6000 of the shipped cascade, a quarter of an hour for 25,000.
    """

    limit: float = 1.0
    upto: Upto = "crown"
    most_values: int = 1 << 15

    def __post_init__(self) -> None:
        if type(self.limit) not in (int, float) or not 0 < self.limit < math.inf:
            raise InputError(
                f"image_error: limit must be finite and above 0, an NMSE, got {self.limit!r}"
            )
        if self.upto not in RUNGS:
            raise InputError(f"image_error: upto must be {', '.join(RUNGS)}, got {self.upto!r}")
        if type(self.most_values) is not int or self.most_values < 1:
            raise InputError(
                f"image_error: most_values must be a whole number from 1, got {self.most_values!r}"
            )

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Values:
        """See `Certifier`.

        Raises:
            UnsupportedError: If task, model, ball or an operator is none that can be bounded, or
                the image is too large.
            CaseError: If an image, an output or the target is not finite or does not fit.
            IntegrityError: If a sampled image breaks a limit.
        """
        if model.task.kind not in KINDS:
            raise UnsupportedError(
                f"image_error: needs a task of {' or '.join(KINDS)}, got {model.task.kind}"
            )
        around = region(ball, batch)
        noise = rng.child("audit").uniform(POINTS, *batch.image.shape[1:])
        known: dict[bytes, tuple[nn.Module, Lowered]] = {}
        cases = []
        for index in range(len(batch)):
            one = batch[index]
            network, written = self._written(model, one, known)
            cases.append(self._settled(network, written, one, around[index], noise[index]))
        return {
            name: torch.tensor([case[name] for case in cases], dtype=torch.float32)
            for name in cases[0]
        }

    def _written(
        self, model: Model, one: Batch, known: dict[bytes, tuple[nn.Module, Lowered]]
    ) -> tuple[nn.Module, Lowered]:
        """Cases of one mask share a network."""
        mask = one.context.get("mask")
        key = b"" if mask is None else mask.detach().cpu().contiguous().numpy().tobytes()
        if key not in known:
            if one.image.numel() > self.most_values:
                raise UnsupportedError(self._too_large(one.image.numel()))
            network = fixed_form(model, one)
            written = lowered(network, one.image)
            widest = max(math.prod(node.shape) for node in written.network.nodes)
            if widest > self.most_values:
                raise UnsupportedError(self._too_large(widest))
            known[key] = network, written
        return known[key]

    def _too_large(self, values: int) -> str:
        return (
            f"image_error: {values} values in one layer, more than most_values = "
            f"{self.most_values}; crop the images, take a smaller network or allow more"
        )

    def _settled(
        self, network: nn.Module, written: Lowered, one: Batch, around: Region, noise: Tensor
    ) -> dict[str, float]:
        around = Region(
            around.low.double().cpu(), around.high.double().cpu(), around.centre.double().cpu(),
            None if around.radius is None else around.radius.double().cpu(),
        )  # fmt: skip
        output = network(around.centre)[0]
        target = one.target[0].double().cpu()
        if not output.isfinite().all():
            raise CaseError("the model's output is not finite")
        if target.shape != output.shape or not target.isfinite().all():
            raise CaseError(
                f"the target must be finite and {tuple(output.shape)}, as the output, got "
                f"{tuple(target.shape)}"
            )
        if not (power := float(target.square().sum())) > 0:
            raise CaseError("the target is 0 everywhere, and an error relative to it undefined")
        truth = target.numpy().reshape(written.network.nodes[-1].shape)
        limits = error_limits(written.network, input_set(around), truth, upto=self.upto)
        seen = sampled(network, around.points(noise.double().cpu()))
        _audited(seen, limits, target, written.tolerance)
        clean = float((output - target).square().sum()) / power
        # Stored in float32, rounded upwards: what is recorded is a limit, too.
        nmse, worst = (
            float(np.nextafter(np.float32(each), np.float32(np.inf)))
            for each in (limits.nmse[1], limits.worst_pixel)
        )
        certified, falsified = nmse <= self.limit, clean > self.limit
        return {
            "certified": float(certified),
            "falsified": float(falsified and not certified),
            "undecided": float(not certified and not falsified),
            "nmse_limit": nmse,
            "nmse_clean": clean,
            "worst_pixel_limit": worst,
        }


def _audited(seen: Tensor, limits: ErrorLimits, target: Tensor, tolerance: float) -> None:
    """Hold sampled images against the limits of each value and of the energy."""
    slack = max(1e-7, 10 * tolerance)  # of a network that answers in float64
    lower = torch.from_numpy(np.concatenate([limits.low.ravel(), -limits.high.ravel()]))
    audit(seen, and_negated(identity_rows(seen.shape[1], seen)), lower, slack)
    energy = float((seen - target.flatten()).square().sum(dim=1).max())
    if not energy <= limits.energy[1] * (1 + slack) + slack:
        raise IntegrityError(
            f"image_error: certificate void: the energy of the error is bounded by "
            f"{limits.energy[1]:.9g}, but an image of the set reaches {energy:.9g}"
        )
