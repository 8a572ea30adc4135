"""Simulated cohorts with a planted truth, and the metric of one: the plans beside this file.

Targets are the simulation's own. Planted are who is in a cohort, and how images are shown.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import robustbench_med as rb
from robustbench_med.cases import Case, CaseSummary, Cohort, Task
from robustbench_med.errors import InputError

USUAL_G, SPREAD = 80.0, 0.3
POOL = 6  # times the patients that are needed of a class: enough for any usual share


@dataclass(frozen=True)
class Changed(Sequence[Case]):
    """Some cases of another sequence, each changed when it is asked for.

    Attributes:
        cases: Simulated ones, as lazy as these.
        indices: Which of them.
        change: Of a case, with its index in `cases`.
        told: What the change is, for the digest.
    """

    cases: Any
    indices: Sequence[int]
    change: Callable[[int, Case], Case]
    told: str

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Case:
        """Make the case at `index`."""
        place = self.indices[index]
        return self.change(place, self.cases[place])

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`."""
        found: CaseSummary = self.cases.summary(self.indices[index])
        digest = hashlib.sha256(f"{found.digest}{self.told}".encode()).hexdigest()
        return replace(found, digest=digest)


def mass(**settings: Any) -> Cohort:  # noqa: ANN401 (those of `synthetic_cine`)
    """Healthy hearts, and the mass of the left ventricle as it truly is.

    The target is `(1,)`: the mass's logarithm, less that of 80 g, over 0.3. So an error is a share
    of the mass, whether the heart is large or small.
    """
    plain = rb.build(
        "cohorts", "synthetic_cine", task="classification", classes=["NOR"], **settings
    )

    def measured(_: int, case: Case) -> Case:
        grams = torch.tensor([float(case.attributes["lvm_g"])])
        return replace(case, target=(grams / USUAL_G).log() / SPREAD)

    cases = Changed(plain.cases, range(len(plain)), measured, f"mass {USUAL_G} {SPREAD}")
    return Cohort("mass of simulated hearts", Task("regression", ("mass",)), (0, 1), cases)


@dataclass(frozen=True)
class RelativeError:
    """How far off a mass of `mass` is, as a percentage of the true one."""

    better: ClassVar[str] = "lower"
    patient: ClassVar[str] = "mean"
    unit: ClassVar[str] = "%"
    limits: ClassVar[tuple[float, float]] = (0.0, inf)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each case: `(b, 1)` and `(b, 1)` to `(b,)`."""
        return 100 * (SPREAD * (output - target).double()).expm1().abs()[:, 0]


def shortcut(
    *,
    groups: Mapping[str, Mapping[str, Mapping[str, float]]],
    patients: Mapping[str, int],
    split: str = "test",
    margin_mm: float | None = None,
    **settings: Any,  # noqa: ANN401 (those of `synthetic_cine`)
) -> Cohort:
    """Diagnoses whose patients come from ancestry groups in stated shares.

    A group decides on subcutaneous fat and on nothing else, so shares that differ between
    diagnoses make fat a shortcut.

    Args:
        groups: By split and diagnosis, the share of each group.
        patients: By split; as many of each diagnosis.
        split: Which one.
        margin_mm: What lies farther from the heart is black; None leaves images as they are.
        settings: Of `synthetic_cine`.

    Raises:
        InputError: If the pool that is drawn from has too few of a group.
    """
    asked = groups[split]
    each = patients[split] // len(asked)
    drawn = {"patients": POOL * patients[split], "split": split, "classes": list(asked)} | settings
    pool = rb.build("cohorts", "synthetic_cine", task="classification", **drawn)
    chosen = _chosen(pool, asked, each)
    if margin_mm is None:
        cases = Changed(pool.cases, chosen, lambda _, case: case, "whole")
    else:
        marked = rb.build(
            "cohorts", "synthetic_cine", task="segmentation", population="acdc", slices=3, **drawn
        )
        reach = ceil(margin_mm / settings.get("pixel_mm", 2.0))
        cases = Changed(pool.cases, chosen, _cut(marked.cases, reach), f"cut {reach}")
    return Cohort("hearts with a shortcut", pool.task, pool.bounds, cases)


def _chosen(pool: Cohort, asked: Mapping[str, Mapping[str, float]], each: int) -> list[int]:
    """The first patients of a pool that make up the shares."""
    wanted = Counter(
        {(what, group): round(each * s) for what, of in asked.items() for group, s in of.items()}
    )
    chosen = []
    for index in range(len(pool)):
        known = pool.cases.summary(index).attributes  # type: ignore[attr-defined]
        who = known["diagnosis"], known["ancestry"]
        if wanted[who] > 0:
            wanted[who] -= 1
            chosen.append(index)
    if any(wanted.values()):
        raise InputError(f"shortcut: a pool of {len(pool)} patients lacks {dict(+wanted)}")
    return chosen


def _cut(marked: Sequence[Case], reach: int) -> Callable[[int, Case], Case]:
    """Black out what lies farther than `reach` pixels from the heart in any of a case's slices."""

    def cut(index: int, case: Case) -> Case:
        count = len(case.image)
        slices = [marked[count * index + number] for number in range(count)]
        if {one.patient_id for one in slices} != {case.patient_id}:
            raise InputError(f"case {case.case_id!r}: its labels are another patient's")
        heart = torch.stack([one.target > 0 for one in slices]).any(dim=0).float()
        near = F.max_pool2d(heart[None], 2 * reach + 1, stride=1, padding=reach)
        return replace(case, image=case.image * near)

    return cut


def displayed(*, gains: Mapping[str, float], **settings: Any) -> Cohort:  # noqa: ANN401
    """Slices for segmentation, where some vendors show images darker than others.

    Args:
        gains: By vendor, above 0 and at most 1: what its images in [0, 1] are multiplied by. It
            takes no information away.
        settings: Of `synthetic_cine`.
    """
    plain = rb.build("cohorts", "synthetic_cine", task="segmentation", **settings)

    def shown(_: int, case: Case) -> Case:
        return replace(case, image=case.image * gains.get(str(case.attributes["vendor"]), 1.0))

    cases = Changed(plain.cases, range(len(plain)), shown, f"displayed {dict(gains)}")
    return Cohort("hearts as vendors show them", plain.task, plain.bounds, cases)
