"""The same patient in a scanner of another field: contrast and noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, prod

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.scanner import FIELDS
from robustbench_med.physics.signal import bssfp
from robustbench_med.physics.tissues import tissue
from robustbench_med.shifts.intensity_scale import brightness
from robustbench_med.shifts.requirements import require_magnitudes
from robustbench_med.shifts.severity import Levels, require_levels, strength
from robustbench_med.streams import CaseRng

AIR, MIXED = "air", "mixed"
OF_MIXED = ("muscle", "fat", "liver")  # most of what is bright around a heart


@dataclass(frozen=True)
class FieldStrength:
    """Rescale each labelled tissue by the ratio of its signals at two fields, and add noise.

    An approximation for magnitude images, which holds as far as the labels do. A tissue's gain is
    the ratio of what `bssfp` gives at the two fields; its logarithm is smoothed over a pixel at
    the labels' borders, and the whole is scaled so that the case's brightness stays, as on a
    display. Signal over noise is proportional to field, so the noise that a lower field has more
    of is added, in both channels of the complex signal, before the magnitude; the noise that a
    higher field has less of is not taken away. `way` goes from the one field to the other evenly
    in the logarithm, of each gain and of the field. Banding and off-resonance stay as they are.

    Attributes:
        way: Levels of the share of the way from `from_t` to `to_t`, at most 1.
        from_t: Field of the images: 0.55, 1.5 or 3.0 tesla.
        to_t: Field to go to, another of these.
        tissues: Tissue of each class of the labels, from class 0: a name of the table in
            `physics/tissues.py`; "mixed" for several (the geometric mean of the gains of muscle,
            fat and liver); or "air", which has no signal. The default is that of the short-axis
            cine: background, cavity, myocardium, cavity.
        labels: "target", or the name of an entry of the context: class numbers `(b, *s)`.
        noise: Standard deviation of the noise in the images as they are, as a share of the case's
            brightness (its 0.99 quantile).
        flip_deg: Flip angle of the protocol, which is the same at both fields.
        tr_ms: Its repetition time; the echo is in the middle.

    Source: Scheffler and Lehnhardt, Eur. Radiol. 13 (2003) for the signal; Hoult and Lauterbur,
    J. Magn. Reson. 34 (1979) for noise where the body makes it; for the times, `tissue`.
    """

    way: Levels = (0.2, 0.4, 0.6, 0.8, 1.0)
    from_t: float = 1.5
    to_t: float = 0.55
    tissues: Sequence[str] = (MIXED, "blood", "myocardium", "blood")
    labels: str = "target"
    noise: float = 0.03
    flip_deg: float = 55.0
    tr_ms: float = 3.2

    def __post_init__(self) -> None:
        require_levels("field_strength: way", self.way)
        object.__setattr__(self, "way", tuple(self.way))
        if self.way[-1] > 1:
            raise InputError(f"field_strength: way must be at most 1, got {self.way[-1]:g}")
        if self.from_t == self.to_t or not {self.from_t, self.to_t} <= {*FIELDS}:
            raise InputError(
                f"field_strength: from_t and to_t must be two of {FIELDS} tesla, got "
                f"{self.from_t!r} and {self.to_t!r}"
            )
        for name in ("noise", "flip_deg", "tr_ms"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < inf:
                raise InputError(f"field_strength: {name} must be above 0, got {value!r}")
        if isinstance(self.tissues, str) or not self.tissues:
            raise InputError(
                "field_strength: tissues must be a list, the tissue of each class from class 0, "
                f"got {self.tissues!r}"
            )
        object.__setattr__(self, "tissues", tuple(self.tissues))
        self.gains()  # refuses a tissue that is in no table

    def __call__(self, batch: Batch, severity: float, rng: CaseRng) -> Batch:
        """See `Shift`.

        Raises:
            InputError: If the severity is outside 0 to 5.
            CaseError: If the case is k-space, an image has negative intensities, there are no
                labels of tissues, or they have a class without a tissue.
        """
        if severity == 0:
            return batch
        way = strength("field_strength", self.way, severity)
        image = require_magnitudes("field_strength", batch)
        classes = self._classes(batch)
        logs = way * image.new_tensor(self.gains()).log()
        gain = feathered(logs[classes.long()]).exp().unsqueeze(1)
        bright = brightness(image)
        # Noise of the way's field, in the signal's unit, less what the image has of it already.
        wanted = self.noise * (self.from_t / self.to_t) ** way
        missing = (wanted**2 - (self.noise * gain).square()).clamp(min=0).sqrt() * bright
        one, other = (rng.normal_like(image) * missing for _ in range(2))
        seen = image * gain
        scale = bright / brightness(seen).clamp(min=torch.finfo(image.dtype).tiny)
        noisy = torch.hypot(seen + one, other) if bool(missing.any()) else seen
        return replace(batch, image=noisy * scale)

    def gains(self) -> tuple[float, ...]:
        """Of each class: signal at the field to go to, over that at the images' own field.

        Raises:
            InputError: If a tissue is in no table.
        """
        mean = prod(self._gain(name) for name in OF_MIXED) ** (1 / len(OF_MIXED))
        known = {AIR: 1.0, MIXED: mean}
        return tuple(known[n] if n in known else self._gain(n) for n in self.tissues)

    def _gain(self, name: str) -> float:
        before, after = (
            float(
                bssfp(
                    each.t1_ms, each.t2_ms, each.density,
                    flip_deg=self.flip_deg, tr_ms=self.tr_ms, te_ms=self.tr_ms / 2,
                ).abs()
            )
            for each in (tissue(name, field) for field in (self.from_t, self.to_t))
        )  # fmt: skip
        return after / before

    def _classes(self, batch: Batch) -> Tensor:
        """Class of each voxel, `(b, *s)`; refused if nothing tells the tissues."""
        labels = batch.target if self.labels == "target" else batch.context.get(self.labels)
        wanted = (len(batch), *batch.image.shape[2:])
        whole = labels is not None and not labels.is_floating_point() and not labels.is_complex()
        if labels is None or not whole or tuple(labels.shape) != wanted:
            got = "nothing" if labels is None else f"{labels.dtype} {tuple(labels.shape[1:])}"
            raise CaseError(
                f"field_strength: case {batch.case_ids[0]!r}: needs to know the tissue of each "
                f"voxel, class numbers {wanted[1:]} in {self.labels!r}, got {got}; take a task of "
                "segmentation, or set labels to an entry of the context; gamma needs no labels"
            )
        least, most = labels.flatten(1).amin(dim=1), labels.flatten(1).amax(dim=1)
        strange = ((least < 0) | (most >= len(self.tissues))).nonzero()
        if len(strange):
            first = int(strange[0])
            raise CaseError(
                f"field_strength: case {batch.case_ids[first]!r} has classes {int(least[first])} "
                f"to {int(most[first])}, and tissues names {len(self.tissues)}, from class 0; name "
                "one for each"
            )
        return labels


def feathered(values: Tensor) -> Tensor:
    """Values smoothed over a pixel along rows and columns, `(b, *s)`, with weights 1, 2, 1."""
    smooth = values.reshape(-1, 1, *values.shape[-2:])
    weights = values.new_tensor([0.25, 0.5, 0.25])
    smooth = F.conv2d(F.pad(smooth, (0, 0, 1, 1), "replicate"), weights.view(1, 1, 3, 1))
    smooth = F.conv2d(F.pad(smooth, (1, 1, 0, 0), "replicate"), weights.view(1, 1, 1, 3))
    return smooth.view(values.shape)
