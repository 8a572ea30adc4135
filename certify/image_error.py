"""Prove how large the error of a reconstructed or refined image can become in a ball."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from robustbench_med.cases import Batch
from robustbench_med.certify.about import Asked, about_case, may_change
from robustbench_med.certify.audit import POINTS
from robustbench_med.certify.fixed_form import fixed_form
from robustbench_med.certify.image_case import ImageCase, settle_image
from robustbench_med.certify.image_limits import RUNGS, Upto
from robustbench_med.certify.lowering import Lowered, lowered
from robustbench_med.certify.region import Region, region
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model
from robustbench_med.probes import Certified
from robustbench_med.proofs.image_certificate import KINDS
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

_Known = tuple[nn.Module, Lowered]


@dataclass(frozen=True)
class ImageError:
    """Bound the error of a reconstruction or a super-resolution over a ball, and prove it.

    For errors of acquired k-space samples the ball has `support = "mask"`. `nmse_limit` is proved
    to be no less than the NMSE of any image that the network gives in the ball; `worst_pixel_limit`
    no less than the modulus of any voxel's error. `nmse_clean` is the NMSE at the clean image. All
    of them count errors of phase, as `nmse_complex` does; the metric `nmse`, of magnitudes, is
    never above. `certified`: `nmse_limit` is at most `limit`; `falsified`: the NMSE of the clean
    image, or of another that was tried, is above it; `undecided`: neither, **not** "attackable".
    `checked`: certified, and derived again from the certificate by the checker.

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

    def __call__(self, model: Model, batch: Batch, ball: Ball, rng: CaseRng) -> Certified:
        """See `Certifier`.

        Raises:
            UnsupportedError: If task, model, ball or an operator is none that can be bounded, or
                the image is too large.
            CaseError: If an image, an output or the target is not finite or does not fit.
            IntegrityError: If a sampled image breaks a limit, or the checker refuses the proof.
        """
        if model.task.kind not in KINDS:
            raise UnsupportedError(
                f"image_error: needs a task of {' or '.join(KINDS)}, got {model.task.kind}"
            )
        around = region(ball, batch)
        noise = rng.child("audit").uniform(POINTS, *batch.image.shape[1:])
        asked = Asked(model, ball, self.upto)
        known: dict[bytes, _Known] = {}
        values, certificates = [], []
        for index, case_id in enumerate(batch.case_ids):
            one = batch[index]
            case = self._case(self._written(model, one, known), one, around[index], asked)
            found, certificate = settle_image(case, noise[index])
            values.append(found)
            certificates.append((case_id, certificate))
        stacked = {
            name: torch.tensor([case[name] for case in values], dtype=torch.float32)
            for name in values[0]
        }
        return Certified(stacked, certificates)

    def _written(self, model: Model, one: Batch, known: dict[bytes, _Known]) -> _Known:
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

    def _case(self, known: _Known, one: Batch, around: Region, asked: Asked) -> ImageCase:
        network, written = known
        radius = float(asked.ball.radius(one.image, one.context).flatten()[0])
        return ImageCase(
            lowered=written,
            network=network,
            kind=asked.model.task.kind,
            one=_in_doubles(around),
            free=may_change(asked.ball, one),
            target=one.target[0].double().cpu(),
            limit=float(self.limit),
            upto=self.upto,
            about=about_case(asked, one.case_ids[0], radius),
        )


def _in_doubles(around: Region) -> Region:
    low, high, centre = (each.double().cpu() for each in (around.low, around.high, around.centre))
    radius = None if around.radius is None else around.radius.double().cpu()
    return Region(low, high, centre, radius)
