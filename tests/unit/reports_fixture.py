"""Makes a run folder as a real run leaves it, from simulated patients, with hostile texts in it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_med.runfolder import FAILURES, RECORDS, Run, write_json
from robustbench_med.statistics.tables import tables_of

HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd()",
    "long " + "x" * 9995,
    "\u202egnirts\u202c אבג",
    'a|b `c` [d](http://e) "&\x1b[31m\x00',
    "$\\frac{1}{0}$ 東京",
)
LINF = (0.002, 0.004, 0.008)
BALLS = [*(("pgd", f"linf<={eps:g}", eps) for eps in LINF),
         *(("fgsm", f"linf<={eps:g}", eps) for eps in LINF),
         *(("pgd", f"l2<={eps:g} of norm", eps) for eps in (0.01, 0.02))]  # fmt: skip
SHIFTS = [(name, severity) for name in ("rician", "gamma", "blur") for severity in (1, 2, 3)]
SHARE = {"better": "higher", "patient": "mean", "unit": "", "limits": [0.0, 1.0]}
METRICS = {
    "correct": SHARE,
    "dice": {**SHARE, "tolerance": 0.8},
    "volume_error": {"better": "zero", "patient": "mean", "unit": "ml", "limits": None},
    "finding": {**SHARE, "reads": "detection", "label": "lesion <b>", "threshold": 0.4,
                "threshold_from": "model card: split val, sensitivity >= 0.9"},
    "ef_error": {"better": "zero", "patient": "mean", "unit": "%", "tolerance": 10.0},
    "moved": {**SHARE, "better": "lower"},
}  # fmt: skip
READ_UNDER = ("clean", "pgd[linf<=0.004]", "fgsm[linf<=0.004]", "rician@2")
"""Probes under which the finding and the ejection fraction are scored: enough to tell."""
POLICY = """
[[rule]]
id = "clean-accuracy"
probe = "clean"
metric = "correct"
floor = 0.80

[[rule]]
id = "volume"
probe = "clean"
metric = "volume_error"
ceiling = 3

[[rule]]
id = "robust"
probe = "worst[linf<=0.004]"
metric = "correct"
floor = 0.9

[[rule]]
id = "fair"
probe = "clean"
metric = "correct"
margin = 0.15
subgroup = "sex"

[[rule]]
id = "noise"
probe = "rician@2"
metric = "dice"
floor = 0.7
subgroup = "site"
severity = "warn"

[[waiver]]
rule = "robust"
reason = "research <b>use</b> only"
approver = "Dr. O'Neil & co"
expires = 2027-03-01
"""


def make_run(folder: Path, *, seed=3, policy=POLICY, state="complete", patients=190) -> Run:
    """Write a run folder and open it."""
    rng = np.random.default_rng(seed)
    cases = _cases(rng, patients)
    manifest = _manifest(cases, policy, state)
    records, failures = _records(rng, cases, manifest)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(cases, preserve_index=False), folder / "cases.parquet")
    for name, table, schema in (
        ("records", records, RECORDS),
        ("failures", failures, FAILURES),
    ):
        arrow = pa.Table.from_pandas(table, schema, preserve_index=False)
        pq.write_table(arrow, folder / f"{name}.parquet")
    manifest["failures"] = len(failures)
    for name, table in tables_of(records, cases, failures, manifest).items():
        pq.write_table(table, folder / name)
    write_json(folder / "manifest.json", manifest)
    return Run.open(folder)


def shared_run(folder: Path) -> Run:
    """The run in this folder, made if nobody has: the tests of a session share one."""
    return Run.open(folder) if (folder / "manifest.json").is_file() else make_run(folder)


def _cases(rng, patients):
    rows = []
    for patient in range(patients):
        sex = rng.choice(["F", "M", None], p=[0.48, 0.46, 0.06])
        age = rng.choice(["18-39", "40-59", "60-79", "80+"], p=[0.2, 0.38, 0.34, 0.08])
        site = rng.choice(["north", "south"], p=[0.5, 0.5])
        if patient < 4 * len(HOSTILE):
            site = HOSTILE[patient % len(HOSTILE)]
        elif patient < 4 * len(HOSTILE) + 14:
            site = "<img src=x onerror=alert(2)>"
        weight = None if rng.random() < 0.1 else float(np.round(rng.normal(74, 12), 1))
        for scan in range(1 + patient % 2):
            case_id = f"case-{patient:03d}-{scan}"
            rows.append((case_id, f"P{patient:03d}", "test", sex, age, site, weight))
    columns = ["case_id", "patient_id", "split", "sex", "age_band", "site", "weight"]
    return pd.DataFrame(rows, columns=columns)


def _manifest(cases, policy, state):
    probes = [_probe("clean", "clean", 0.0, None, len(cases))]
    probes += [_probe(f"{n}[{ball}]", "attack", eps, ball, len(cases)) for n, ball, eps in BALLS]
    probes += [_probe(f"{n}@{s}", "shift", float(s), None, len(cases)) for n, s in SHIFTS]
    probes += [
        _probe(f"crown[linf<={e:g}]", "certificate", e, f"linf<={e:g}", min(60, len(cases)))
        for e in LINF[:2]
    ]
    missing = {n: int(cases[n].isna().sum()) for n in ("sex", "age_band", "site", "weight")}
    return {
        "schema_version": 1, "name": "cine <b>2026</b>", "state": state,
        "plan": {"name": "cine", "seed": 7, "cohort": {"use": "synthetic_cine", "patients": 190},
                 "metrics": [{"use": "dice", "label": "lv"}], "note": "</style><script>x</script>"},
        "plan_digest": "a" * 64, "seed": 7,
        "digests": {"model": "b" * 64, "cohort": "c" * 64, "code": "d" * 64,
                    "policy": "e" * 64 if policy else None},
        "policy": policy,
        "policy_fixed": "2026-11-01T10:00:00Z, before any result was known" if policy else None,
        "task": {"kind": "segmentation", "classes": ["background", "lv"]}, "bounds": [0, 1],
        "cohort": {"name": "synthetic_cine", "cases": len(cases),
                   "patients": int(cases["patient_id"].nunique()), "missing": missing},
        "metrics": METRICS,
        "probes": probes,
        "validity": {f"{name}[{ball}]": _panel() for name, ball, _ in BALLS},
        "subgroups": [["sex"], ["site"], ["sex", "age_band"]], "explore": ["sex", "age_band"],
        "versions": {"python": "3.12.3", "robustbench-med": "0.1.0", "torch": "2.13.0"},
        "hardware": {"device": "cpu", "name": "x86_64", "cores": 2},
        "started": "2026-11-01T10:00:00Z", "finished": "2026-11-01T10:31:07Z",
        "failures": 0, "failure_limit": 0.05,
        "model": {"name": "unet", "card": {"epochs": 40, "defence": {"use": "adversarial"}}},
    }  # fmt: skip


def _panel():
    check = {"name": "seed", "says": "ok", "against": 0, "n": 32, "suspect_at": 0.125,
             "masked_at": "inf", "why": "broken with another seed, not by the attack"}  # fmt: skip
    return {"verdict": "valid", "why": "valid: 1 checks on 32 cases found nothing",
            "n": 32, "withstood": "nan", "at_most": "nan", "checks": [check]}  # fmt: skip


def _probe(name, kind, level, ball, cases):
    return {
        "name": name, "kind": kind, "level": level, "ball": ball, "cases": cases,
        "component": name.split("[")[0].split("@")[0], "settings": {"steps": 40},
        "digest": f"{abs(hash_of(name)):016x}" * 4, "seconds": 1.25 * len(name),
    }  # fmt: skip


def hash_of(text):
    """A small hash that does not change from process to process."""
    return sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**61


def _records(rng, cases, manifest):
    """One latent robustness per case, so that harder probes break a superset of cases."""
    skill = rng.normal(0, 1, len(cases)) + 0.7 * rng.normal(0, 1, len(cases))
    skill -= 0.5 * (cases["sex"] == "F").to_numpy()
    rows, failures = [], []
    for probe in manifest["probes"]:
        asked = range(probe["cases"])
        for i in asked:
            case_id = cases["case_id"][i]
            if (i * 7 + len(probe["name"])) % 97 == 0 and probe["kind"] != "clean":
                failures.append((case_id, probe["name"], probe["kind"], *_error(case_id, probe)))
                continue
            found = _values(probe, float(skill[i]), i)
            if probe["name"] in READ_UNDER:
                found += _clinical(probe, cases["sex"][i] == "F", i)
            for metric, value in found:
                rows.append((case_id, probe["name"], probe["kind"], probe["level"], metric, value))
    return pd.DataFrame(rows, columns=RECORDS.names), pd.DataFrame(failures, columns=FAILURES.names)


def _error(case_id, probe):
    if probe["kind"] == "certificate":
        return "UnsupportedError", f"{case_id}: no bound for <softmax>"
    return "CaseError", f"case {case_id!r}: the model's output is not finite"


def _values(probe, skill, place):
    level = probe["level"]
    if probe["kind"] == "certificate":
        proved = float(skill > 0.2 + 400 * level)
        return [("certified", proved), ("falsified", 0.0), ("undecided", 1 - proved)]
    push = {"clean": 0.0, "attack": 150 * level, "shift": 0.35 * level}[probe["kind"]]
    if "l2" in probe["name"]:
        push = 60 * level
    if probe["name"].startswith("fgsm"):
        push *= 0.6
    dice = math.nan if place % 23 == 0 else 1 / (1 + math.exp(-(1.8 + 0.5 * skill - push)))
    return [
        ("correct", float(skill > push - 2.0)),
        ("dice", dice),
        ("volume_error", 1.2 + push * (2.0 + 0.5 * math.sin(place)) - 0.8 * skill),
    ]


def _clinical(probe, woman, place):
    """A finding, whose risk is overstated in women, and an ejection fraction, too high in them."""
    rng = np.random.default_rng(place)
    there, ease, shape, slip = rng.random() < 0.4, *rng.normal(size=3)
    push = {"clean": 0.0, "attack": 250 * probe["level"], "shift": 0.15 * probe["level"]}
    hard = push[probe["kind"]] * (1.5 if woman else 1.0)
    side = 1 if there else -1
    odds = 1.3 * side + 1.2 * ease - side * hard + (1.2 if woman else 0.0) - 0.4
    given = 1 / (1 + math.exp(-side * odds))
    true = 55 + 11 * shape
    predicted = true + 4 * slip + (3.5 if woman else -0.5) + 4 * hard
    zones = [sum(value >= cut for cut in (40, 50)) for value in (predicted, true)]
    return [
        ("finding", given), ("finding.true", float(there)),
        ("ef_error", predicted - true), ("ef_error.predicted", predicted),
        ("ef_error.true", true), ("moved", float(zones[0] != zones[1])),
        ("moved.up", float(zones[0] > zones[1])), ("moved.down", float(zones[0] < zones[1])),
    ]  # fmt: skip
