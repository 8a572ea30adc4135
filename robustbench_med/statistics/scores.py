"""The records of one metric as arrays: a row per case, a column per probe."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics.bootstrap import Floats

Better = Literal["higher", "lower", "zero", "one"]
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
class Meaning:
    """What the plan and the metric say of its numbers.

    Attributes:
        better: What a good value is.
        patient: How a patient's value comes from the cases.
        limits: Between which values lie by definition; None where nothing is said.
        tolerance: Beyond which a value counts as a failure; None where nothing is declared.
        reads: "detection" where values are probabilities given to the truth.
        threshold: From which probability on a case is called positive; None where unknown.
    """

    better: Better
    patient: Patient = "mean"
    limits: tuple[float, float] | None = None
    tolerance: float | None = None
    reads: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Scores:
    """What one metric says of `c` cases under `q` probes.

    Attributes:
        metric: Its name.
        meaning: Of its numbers.
        probes: `q` of them.
        values: `(c, q)`, NaN where undefined, failed, or not asked.
        asked: `(c, q)`, whether the probe was put to the case.
        failed: `(c, q)`, whether it failed there.
        parts: `(3, c, q)`, shared, predicted and true voxels, if the patient value needs them.
        penalised: `(c, q)`, whether the value stands for one that could not be had; or None.
        truth: `(c,)`, 1 where what is to be found is there, 0 where not; or None.
        among: `(c, q)`, the cases that a rate is about, others being no loss; None for all.
    """

    metric: str
    meaning: Meaning
    probes: tuple[ProbeEntry, ...]
    values: Floats
    asked: Flags
    failed: Flags
    parts: Floats | None = None
    penalised: Flags | None = None
    truth: Floats | None = None
    among: Flags | None = None

    @cached_property
    def zero_one(self) -> bool:
        """Whether every defined value of the metric, under any probe, is 0 or 1."""
        defined = self.values[~np.isnan(self.values)]
        return self.meaning.patient == "mean" and bool(np.isin(defined, (0.0, 1.0)).all())

    @cached_property
    def ran(self) -> Flags:
        """`(c, q)`, whether the probe was put to the case and did not fail."""
        return self.asked & ~self.failed


def at(scores: Scores, places: list[int]) -> Scores:
    """The same under some of the probes."""
    return replace(
        scores,
        probes=tuple(scores.probes[place] for place in places),
        values=scores.values[:, places],
        asked=scores.asked[:, places],
        failed=scores.failed[:, places],
        parts=None if scores.parts is None else scores.parts[:, :, places],
        penalised=None if scores.penalised is None else scores.penalised[:, places],
        among=None if scores.among is None else scores.among[:, places],
    )


def badness(values: Floats, better: Better) -> Floats:
    """Turn values so that more is worse."""
    turned = {"higher": -values, "lower": values, "zero": np.abs(values)}
    return turned[better] if better in turned else np.abs(values - 1)
