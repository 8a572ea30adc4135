"""The audit of a test split against the split that a model learnt from, in plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.overlap.divergence import Json
from robustbench_med.overlap.leaks import Leak, Search, search
from robustbench_med.overlap.seen import OnProgress, Seen, look, silent
from robustbench_med.overlap.shift import shift

DRAWN = 2000
"""Cases per split whose intensities and texture are looked at; copies are looked for in all."""
LISTED = 20
VERSION = 1
KINDS = ("patient", "identical", "near")
LEVEL = 0.05


def audit(test: Cohort, train: Cohort, *, seed: int = 0, on_progress: OnProgress = silent) -> Json:
    """Find what the splits share and how they differ, reading every image once.

    A few thousand are read a second time, where two must be compared in detail.

    Args:
        test: What the model is tested on.
        train: What it learnt from.
        seed: Of the draws.
        on_progress: Told what is being done, how much of it is, and of how much.

    Returns:
        What JSON can hold; `docs/split.md` lists the keys. Undefined values are None, and so
        is what fewer than 10 patients are behind. Of leaks, at most 20 are listed.

    Raises:
        InputError: If a split has no case, or the tasks differ.
    """
    for name, cohort in (("test", test), ("training", train)):
        if len(cohort) == 0:
            raise InputError(f"{name} split {cohort.name!r}: expected at least 1 case, got 0")
    if test.task != train.task:
        raise InputError(
            f"splits: expected one task, got {test.task} for testing and {train.task} for training"
        )
    rng = np.random.default_rng(seed)
    ours, theirs = (
        look(cohort, rng.permutation(len(cohort))[:DRAWN].tolist(), on_progress)
        for cohort in (test, train)
    )
    found = search(ours, theirs, seed=seed, on_progress=on_progress)
    return {
        "version": VERSION, "test": _size(ours), "train": _size(theirs),
        "leaks": _leaks(found, ours, theirs), **shift(ours, theirs, rng),
    }  # fmt: skip


def lines(audited: Mapping[str, Any], other: str = "training") -> list[str]:
    """Say in a few lines what must be known before a run: leaks, differences, confounding.

    Args:
        audited: From `audit`.
        other: What the split is called that the test is held against.
    """
    said = [_said_of_leaks(audited, other)]
    for table, what in (("attributes", "patients"), ("labels", "truth"), ("features", "images")):
        real = [row for row in audited[table] if row["p_holm"] < LEVEL]
        if real:
            said.append(f"{what} differ from {other}: {_few([row['name'] for row in real])}")
    apart = audited["separation"]
    if apart and apart["p"] < LEVEL:
        said.append(f"images can be told from {other} images: AUC {apart['auc']:.2f}")
    pairs = [f"{p['attribute']} with {p['label']}" for p in audited["confounding"]
             if p["p_holm"] < LEVEL]  # fmt: skip
    if pairs:
        said.append(f"a gap may be one between labels: {_few(pairs)}")
    return said


def _said_of_leaks(audited: Mapping[str, Any], other: str) -> str:
    leaks = audited["leaks"]
    near = leaks["near"]
    planted = [sum(pair[i] for pair in near["planted"].values()) for i in (0, 1)]
    sure = near["reason"] or f"{planted[0]} of {planted[1]} planted copies were found"
    if not leaks["cases"]:
        return f"no leak from the {other} split found ({sure})"
    kinds = (f"{leaks['counts'][kind]['cases']} {kind}" for kind in KINDS)
    total = f"{leaks['cases']} of {audited['test']['cases']} test cases"
    return f"LEAK: the {other} split knows {total} ({', '.join(kinds)}; {sure})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _size(seen: Seen) -> Json:
    return {"name": seen.cohort.name, "cases": len(seen), "patients": seen.patients}


def _leaks(found: Search, test: Seen, train: Seen) -> Json:
    by_kind = {kind: [leak for leak in found.leaks if leak.kind == kind] for kind in KINDS}
    owner = dict(zip(test.case_ids, test.patient_ids, strict=True))
    near = found.calibration
    return {
        "cases": len({leak.test for leak in found.leaks}),
        "counts": {kind: _count(leaks, owner) for kind, leaks in by_kind.items()},
        "listed": [asdict(leak) for leak in _some(by_kind)],
        "within": {kind: sum(leak.kind == kind for leak in found.within) for kind in KINDS[1:]},
        "blank": {"test": test.pixels.count(""), "train": train.pixels.count("")},
        "near": {
            "limit": None if math.isnan(near.limit) else near.limit,
            "typical": None if math.isnan(near.typical) else near.typical,
            "unrelated": near.unrelated,
            "doubled": near.doubled,
            "compared": found.compared,
            "planted": {change: list(pair) for change, pair in near.planted.items()},
            "reason": near.reason,
        },
    }


def _count(leaks: Sequence[Leak], owner: Mapping[str, str]) -> Json:
    return {"cases": len(leaks), "patients": len({owner[leak.test] for leak in leaks})}


def _some(by_kind: Mapping[str, Sequence[Leak]]) -> list[Leak]:
    """At most 20 leaks, every kind in turn, then sorted by kind."""
    turns = chain.from_iterable(zip_longest(*by_kind.values()))
    kept = list(islice((leak for leak in turns if leak is not None), LISTED))
    return sorted(kept, key=lambda leak: KINDS.index(leak.kind))
