"""Makes the tables of a run from arrays of values, for tests of the statistics."""

import numpy as np
import pandas as pd

FAILURES = ("case_id", "probe", "kind", "error", "message")


def probe_entry(name):
    """A probe as its name says: clean, an attack `name[ball]`, a proof `crown[ball]`, a shift."""
    ball = name.partition("[")[2].rstrip("]") or None
    kind = "clean" if name == "clean" else "shift"
    if ball:
        kind = "certificate" if name.startswith("crown") else "attack"
    level = 0.1 if ball else float(name.partition("@")[2] or 0)
    return {"name": name, "kind": kind, "level": level, "component": name, "ball": ball}


def tables(values, metrics=None, *, who=None, attributes=None, asked=None, failed=None,
           subgroups=(), seed=7):  # fmt: skip
    """Records, cases, failures and manifest of one run.

    Args:
        values: By metric and probe, `(c,)` values, NaN for undefined ones.
        metrics: By metric what the manifest says; "higher" and "mean" unless said.
        who: `(c,)`, numbers of patients; one case each unless said.
        attributes: By name, `(c,)`.
        asked: By probe, `(c,)`, whether it was put to the case; to all unless said.
        failed: By probe, `(c,)`, whether it failed there; nowhere unless said.
        subgroups: Lists of attributes.
        seed: Of the run.
    """
    names = list(dict.fromkeys(probe for by_probe in values.values() for probe in by_probe))
    count = len(next(iter(next(iter(values.values())).values())))
    ids = np.array([f"c{k:05d}" for k in range(count)], dtype=object)
    who = np.arange(count) if who is None else np.asarray(who)
    cases = pd.DataFrame({"case_id": ids, "patient_id": [f"p{k:05d}" for k in who],
                          "split": "test", **(attributes or {})})  # fmt: skip
    asked, failed = asked or {}, failed or {}
    probes = [probe_entry(name) for name in names]
    records, failures = [], []
    for probe in probes:
        name = probe["name"]
        put = np.asarray(asked.get(name, np.ones(count, dtype=bool)))
        broke = put & np.asarray(failed.get(name, np.zeros(count, dtype=bool)))
        failures += [(case, name, probe["kind"], "CaseError", "no") for case in ids[broke]]
        for metric, by_probe in values.items():
            if name in by_probe:
                there = put & ~broke
                told = {"case_id": ids[there], "probe": name, "kind": probe["kind"],
                        "level": probe["level"], "metric": metric}  # fmt: skip
                numbers = np.broadcast_to(np.asarray(by_probe[name], dtype=float), count)
                records.append(pd.DataFrame({**told, "value": numbers[there]}))
    plain = {"better": "higher", "patient": "mean", "unit": ""}
    given = metrics or {}
    meant = {name: {**plain, **given.get(name, {})} for name in values
             if name in given or "." not in name}  # fmt: skip
    manifest = {"seed": seed, "metrics": meant, "probes": probes,
                "subgroups": [list(columns) for columns in subgroups]}  # fmt: skip
    return (
        pd.concat(records, ignore_index=True),
        cases,
        pd.DataFrame(failures, columns=list(FAILURES)),
        manifest,
    )


def row(table, **wanted):
    """The one row with these entries."""
    chosen = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    assert chosen.sum() == 1, f"{chosen.sum()} rows have {wanted}"
    return table[chosen].iloc[0]
