"""How often the intervals hold the truth, and how often groups are blamed for nothing.

Claims: nominal 95% intervals of means, areas under the curve and paired differences hold the truth
in 93% to 97% of studies of 100 patients and more, and in at least 91% of 30, with 1 to 20 images
a patient and an intraclass correlation of 0 to 0.5 (exact methods for shares may be conservative);
among 12 groups that do not differ, at most 6% of studies blame any; and gaps of 5 to 20 points are
found as often as the table says. Beside it: intervals that draw images, and the row bootstrap of
the largest gap between groups that fairlearn offers. Every figure comes from the code that
reports use.

    python benchmarks/statistics.py [--repeats 10000] [--only TEXT] [--fresh]

Settings already in the results are kept, so that it can be stopped and started again.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from robustbench_med.statistics import studentised
from robustbench_med.statistics.bootstrap import draw_patients, replicate
from robustbench_med.statistics.families import adjust
from robustbench_med.statistics.groups import GroupFindings
from robustbench_med.statistics.multiplicity import max_t
from robustbench_med.statistics.portion import minus
from robustbench_med.statistics.readings import Reading, readings_of
from robustbench_med.statistics.samples import Drawn, sample
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores
from robustbench_med.statistics.study import Study, findings_of

RESULT = Path(__file__).parent / "results" / "statistics.json"
BATCH = 50
BESIDE = 20
"""Batches in which the other methods are run too; they need fewer to be told apart."""
GROUPS = 12
SHARE = 0.9
PEER_DRAWS = 200
TAILED = (8, 1.2)
GRID_Z = np.linspace(-6, 6, 4001)
Array = NDArray[Any]


@dataclass(frozen=True)
class Setting:
    """One simulated kind of study.

    Attributes:
        what: mean, skewed, auc, paired, share, fair or gap.
        patients: In all, or in each of the 12 groups.
        images: A patient has on average; where more than one, 1 to twice as many less one.
        icc: Intraclass correlation of images of one patient.
        gap: By how much one group's share is lower.
    """

    what: str
    patients: int
    images: int
    icc: float
    gap: float = 0.0

    @property
    def name(self) -> str:
        """Key in the results."""
        gap = f" gap={self.gap}" if self.gap else ""
        return f"{self.what} patients={self.patients} images={self.images} icc={self.icc}{gap}"


SIZES = (30, 100)
GRID = [
    *(Setting(w, n, m, c) for w in ("mean", "skewed") for n in SIZES
      for m, c in ((1, 0.0), (5, 0.3), (20, 0.0), (20, 0.5))),
    *(Setting(w, n, m, c) for w in ("auc", "paired") for n in SIZES
      for m, c in ((1, 0.0), (5, 0.3), (20, 0.5))),
    *(Setting("share", n, m, c) for n in SIZES for m, c in ((1, 0.0), (20, 0.5))),
    Setting("fair", 60, 1, 0.0), Setting("fair", 120, 1, 0.0), Setting("fair", 60, 5, 0.3),
    *(Setting("gap", 120, 1, 0.0, gap) for gap in (0.05, 0.10, 0.15, 0.20)),
]  # fmt: skip


def normal(setting: Setting, patients: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Whose each image is, and standard normal values `(images, BATCH)` with the setting's ICC."""
    most = 2 * setting.images
    counts = rng.integers(1, most, patients) if setting.images > 1 else np.ones(patients, int)
    ids = np.repeat(np.arange(patients), counts)
    shared = rng.standard_normal((patients, BATCH))[ids]
    alone = rng.standard_normal((len(ids), BATCH))
    return ids, np.sqrt(setting.icc) * shared + np.sqrt(1 - setting.icc) * alone


def reading_of(values: Array, limits: tuple[float, float] | None = None) -> Reading:
    """A metric whose every column is a study of its own."""
    probes = tuple(ProbeEntry(f"study{k}", "shift", float(k)) for k in range(values.shape[1]))
    asked = np.ones(values.shape, dtype=bool)
    meaning = Meaning("higher", "mean", limits)
    return readings_of([Scores("metric", meaning, probes, values, asked, ~asked)])[0]


def overlap(latent: Array) -> Array:
    """Normal values turned to the beta law of a Dice with a long tail of failures."""
    return np.interp(latent, GRID_Z, stats.beta.ppf(stats.norm.cdf(GRID_Z), *TAILED))


def held(truth: float, low: Array, high: Array) -> Array:
    """Which intervals hold the truth."""
    return (np.asarray(low) <= truth) & (truth <= np.asarray(high))


def covered(setting: Setting, rng: np.random.Generator, *, beside: bool) -> dict[str, Any]:
    """Coverage of the interval of one figure, and of the one that takes images for patients."""
    ids, latent = normal(setting, setting.patients, rng)
    truth, limits = 0.0, None
    if setting.what == "skewed":
        latent, truth, limits = overlap(latent), 8 / 9.2, (0.0, 1.0)
    if setting.what == "share":
        latent, truth, limits = (latent < stats.norm.ppf(SHARE)) * 1.0, SHARE, (0.0, 1.0)
    reading, everyone = reading_of(latent, limits), np.ones(len(ids), dtype=bool)
    found = {}
    for name, units in (("coverage", ids), ("image_level", np.arange(len(ids)))):
        drawn = Drawn(units, draw_patients(int(units.max()) + 1, rng))
        made = sample([reading], drawn, everyone).estimates
        found[name] = held(truth, [e.low for e in made], [e.high for e in made])
        if setting.images == 1 or not beside:
            break
    return found


def areas(setting: Setting, rng: np.random.Generator, *, beside: bool) -> dict[str, Any]:
    """Coverage of areas under the curve; half of the patients have the finding."""
    ids, latent = normal(setting, setting.patients, rng)
    positive = (ids % 2 == 0)[:, None]
    apart = 1.19  # an area of 0.8 for normal scores of equal variance
    score = stats.norm.cdf(latent + apart * positive)
    truth = float(stats.norm.cdf(apart / np.sqrt(2)))
    given = np.where(positive, score, 1 - score)
    probes = tuple(ProbeEntry(f"study{k}", "shift", float(k)) for k in range(BATCH))
    asked = np.ones(given.shape, dtype=bool)
    meaning = Meaning("higher", "mean", (0.0, 1.0), reads="detection")
    flags = positive[:, 0].astype(float)
    scores = Scores("d", meaning, probes, given, asked, ~asked, truth=flags)
    reading = next(r for r in readings_of([scores]) if r.metric == "d.auc")
    found = {}
    for name, units in (("coverage", ids), ("image_level", np.arange(len(ids)))):
        everyone = np.ones(len(ids), dtype=bool)
        portion = reading.of(units, everyone)
        made = [reading.interval(scores, units, everyone, portion, k) for k in range(BATCH)]
        found[name] = held(truth, [e.low for e in made], [e.high for e in made])
        if setting.images == 1 or not beside:
            break
    return found


def paired(setting: Setting, rng: np.random.Generator, *, beside: bool) -> dict[str, Any]:
    """Coverage of the difference of two releases on the same images."""
    del beside
    ids, latent = normal(setting, setting.patients, rng)
    old = overlap(latent)
    better = rng.exponential(0.02, (setting.patients, BATCH))[ids]
    new = old + better + rng.normal(0, 0.03, old.shape)
    everyone = np.ones(len(ids), dtype=bool)
    drawn = Drawn(ids, draw_patients(setting.patients, rng))
    change = minus(reading_of(new).of(ids, everyone), reading_of(old).of(ids, everyone))
    replicates = replicate(drawn.table, change.influence, change.held)
    return {"coverage": held(0.02, *studentised.limits(change.values, change.error, replicates))}


def family(setting: Setting, rng: np.random.Generator, *, beside: bool) -> dict[str, Any]:
    """Whether any of 12 groups is blamed; with a gap, whether the one that has it is found."""
    patients = GROUPS * setting.patients
    ids, latent = normal(setting, patients, rng)
    group = ids // setting.patients
    share = np.where(group == 0, SHARE - setting.gap, SHARE)[:, None]
    values = (latent < stats.norm.ppf(share)) * 1.0
    cases = pd.DataFrame({"case_id": [f"{k:06}" for k in range(len(ids))]})
    cases["group"] = np.array([f"g{k:02}" for k in range(GROUPS)])[group]
    reading = reading_of(values, (0.0, 1.0))
    drawn = Drawn(ids, draw_patients(patients, rng))
    study = Study(cases, [reading], drawn, [probe.name for probe in reading.probes])
    findings = findings_of(study, [["group"]])
    p = np.array([[d.p for d in found.gap.differences] for found in findings[1:]])
    holm = adjust(study, findings).holm[1:]
    joint = np.array([_joint(findings[1:], k) for k in range(BATCH)]).T
    peer = {"row_bootstrap_of_range": lowest_ranges(values, group, rng) > 0} if beside else {}
    if not setting.gap:
        return {"uncorrected": (p < 0.05).any(0), "holm": (holm <= 0.05).any(0),
                "max_t": (joint <= 0.05).any(0), **peer}  # fmt: skip
    worse = np.array([d.value for d in findings[1].gap.differences]) < 0
    return {"uncorrected": (p[0] < 0.05) & worse, "holm": (holm[0] <= 0.05) & worse,
            "max_t": (joint[0] <= 0.05) & worse, **peer}  # fmt: skip


def _joint(groups: list[GroupFindings], column: int) -> Array:
    """Jointly corrected p-values of the groups in one study."""
    gaps = [found.gap for found in groups if found.gap is not None]
    observed = np.array([gap.statistic[column] for gap in gaps])
    return max_t(observed, np.stack([gap.draws[:, column] for gap in gaps], axis=1))


def lowest_ranges(values: Array, group: Array, rng: np.random.Generator) -> Array:
    """Lower 95% limit of the largest gap between groups when rows are drawn, by study."""
    rows = rng.integers(len(values), size=(PEER_DRAWS, len(values)))
    ranges = np.empty((PEER_DRAWS, values.shape[1]))
    for draw, picked in enumerate(rows):
        member = group[picked] == np.arange(GROUPS)[:, None]
        with np.errstate(invalid="ignore"):
            means = member @ values[picked] / member.sum(axis=1, keepdims=True)
        ranges[draw] = np.nanmax(means, axis=0) - np.nanmin(means, axis=0)
    return np.quantile(ranges, 0.025, axis=0)


def fairlearn_says(studies: int) -> dict[str, Any]:
    """The peer itself on fair studies of 12 groups of 60: how often its interval leaves out 0."""
    from fairlearn.metrics import MetricFrame

    def accuracy(truth: Array, answer: Array) -> float:
        return float(np.mean(np.asarray(truth) == np.asarray(answer)))

    rng, blamed = np.random.default_rng(0), 0
    for study in range(studies):
        right = rng.random(GROUPS * 60) < SHARE
        frame = MetricFrame(
            metrics=accuracy, y_true=np.ones(len(right)), y_pred=right * 1.0,
            sensitive_features=np.repeat(np.arange(GROUPS), 60), n_boot=PEER_DRAWS,
            ci_quantiles=[0.025, 0.975], random_state=study,
        )  # fmt: skip
        blamed += frame.difference_ci()[0] > 0
    return {"studies": studies, "blamed": blamed / studies, "version": version("fairlearn")}


SIMULATE = {"mean": covered, "skewed": covered, "share": covered, "auc": areas, "paired": paired,
            "fair": family, "gap": family}  # fmt: skip


def measure(setting: Setting, repeats: int) -> dict[str, Any]:
    """Shares over many studies, each with its standard error."""
    rng = np.random.default_rng([17, GRID.index(setting)])
    started = time.perf_counter()
    simulate, rounds = SIMULATE[setting.what], range(max(1, repeats // BATCH))
    parts = [simulate(setting, rng, beside=k < BESIDE) for k in rounds]
    found: dict[str, Any] = {**asdict(setting), "repeats": len(parts) * BATCH}
    for name in parts[0]:
        several = np.concatenate([part[name] for part in parts if name in part])
        share = float(several.mean())
        found[name] = round(share, 4)
        found[f"{name}_error"] = round(float(np.sqrt(share * (1 - share) / len(several))), 4)
    return {**found, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Measure every setting that the results lack, print and store."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=10_000)
    options.add_argument("--only", default="")
    options.add_argument("--fresh", action="store_true")
    given = options.parse_args()
    stored = json.loads(RESULT.read_text()) if RESULT.is_file() and not given.fresh else {}
    settings = stored.get("settings", {})
    for setting in GRID:
        known = settings.get(setting.name, {}).get("repeats", 0)
        if given.only in setting.name and known < given.repeats:
            settings[setting.name] = measure(setting, given.repeats)
            print(json.dumps(settings[setting.name]), flush=True)
            _store(settings, stored.get("fairlearn"))
    _store(settings, stored.get("fairlearn") or fairlearn_says(40))


def _store(settings: dict[str, Any], peer: dict[str, Any] | None) -> None:
    machine = {"cores": os.cpu_count(), "machine": platform.machine(),
               "python": sys.version.split()[0], "numpy": np.__version__}  # fmt: skip
    ordered = {s.name: settings[s.name] for s in GRID if s.name in settings}
    total = round(sum(entry["seconds"] for entry in ordered.values()))
    content = {"machine": machine, "seconds": total, "fairlearn": peer, "settings": ordered}
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
