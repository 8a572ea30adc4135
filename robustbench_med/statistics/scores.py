"""The records of one metric as arrays: a row per case, a column per probe."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats

Better = Literal["higher", "lower", "zero"]
Patient = Literal["mean", "sum", "dice"]
Flags = NDArray[np.bool_]
Counts = NDArray[np.intp]


@dataclass(frozen=True)
class ProbeEntry:
    """A probe as the manifest lists it.

    Attributes:
        name: Unique in the run.
        kind: clean, attack, shift, certificate, or worst.
        level: Radius or severity.
        ball: Text of its ball, if it has one.
    """

    name: str
    kind: str
    level: float
    ball: str | None = None


@dataclass(frozen=True)
class Scores:
    """What one metric says of `c` cases under `q` probes.

    Attributes:
        metric: Its name.
        better: What a good value is.
        patient: How a patient's value comes from the cases.
        probes: `q` of them.
        values: `(c, q)`, NaN where undefined, failed, or not asked.
        asked: `(c, q)`, whether the probe was put to the case.
        failed: `(c, q)`, whether it failed there.
        parts: `(3, c, q)`, shared, predicted and true voxels, if the patient value needs them.
    """

    metric: str
    better: Better
    patient: Patient
    probes: tuple[ProbeEntry, ...]
    values: Floats
    asked: Flags
    failed: Flags
    parts: Floats | None = None

    @cached_property
    def zero_one(self) -> bool:
        """Whether every defined value of the metric, under any probe, is 0 or 1."""
        defined = self.values[~np.isnan(self.values)]
        return self.patient == "mean" and bool(np.isin(defined, (0.0, 1.0)).all())
