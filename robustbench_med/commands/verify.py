"""`rbmed verify PATH`: derive every certificate of a run again, without torch or the engine."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from robustbench_med.certify.checker import check_file
from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.proofs.certificate_files import (
    certificates_in,
    digest_of_all,
    load_certificate,
)
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.statement import Statement, proved
from robustbench_med.runfolder import CERTIFICATES, Run

SLACK = 1e-6  # shares of pixels are float32 quotients
LIMITS = ("nmse_limit", "worst_pixel_limit")


def main(options: argparse.Namespace) -> int:
    """Check what is there, say what does not hold, and return 0 or raise."""
    path: Path = options.path
    if path.suffix == ".json" and path.name != "manifest.json" and path.is_file():
        found = check_file(path)
        _say(options, {"certificates": 1, "share": found.share, **found.limits},
             f"{path}: holds: {found.words}")  # fmt: skip
        return 0
    if not path.is_dir():
        raise InputError(f"verify: expected a run folder or a certificate (.json), got {path}")
    run = Run.open(path)
    wrong = [*_tables(run), *_certificates(run)]
    if wrong:
        raise IntegrityError("\n".join(wrong))
    records = run.records
    proofs = records[(records["kind"] == "certificate") & (records["metric"] == "certified")]
    claimed = int((proofs["value"] > 0).sum())
    checked = int(((_checked(records)) > 0).sum())
    summed: dict[str, object] = {
        "certificates": len(list(certificates_in(run.folder / CERTIFICATES))),
        "cases_proved": claimed, "proved_and_checked": checked, "engine_only": claimed - checked,
    }  # fmt: skip
    text = (
        f"{path}: every file is as the run wrote it\n"
        f"{summed['certificates']} certificates derived again: all hold\n"
        f"of {claimed} answers with something proved: {checked} proved and checked, "
        f"{claimed - checked} proved, engine only"
    )
    _say(options, summed, text)
    return 0


def _say(options: argparse.Namespace, found: dict[str, object], text: str) -> None:
    print(json.dumps(found) if options.json else text)


def _tables(run: Run) -> Iterator[str]:
    for name in ("cases", "records", "failures", "estimates", "gaps", "search"):
        try:
            getattr(run, name)
        except IntegrityError as error:
            yield str(error)


def _checked(records: pd.DataFrame) -> pd.Series:
    """What each case has that is proved and checked, by probe and case."""
    kept = records[records["metric"].isin(("certified", "checked"))]
    wide = kept[kept["kind"] == "certificate"].pivot_table(
        index=["probe", "case_id"], columns="metric", values="value"
    )
    return wide.reindex(columns=["certified", "checked"]).min(axis=1, skipna=False)


def _certificates(run: Run) -> Iterator[str]:
    folder = run.folder / CERTIFICATES
    written = run.manifest.get("certificates", {})
    found = digest_of_all(folder)
    if any(written.get(part) != value for part, value in found.items()):
        yield f"{folder}: certificates were added, removed or altered since the run wrote them"
    known: dict[str, Network] = {}
    statements: dict[tuple[str, str], Statement] = {}
    for path in _shown(list(certificates_in(folder))):
        try:
            certificate = load_certificate(path, known)
            statement = proved(certificate)
        except IntegrityError as error:
            yield f"{path}: {error}"
            continue
        about = certificate.about
        if about.get("model") != written.get("model"):
            yield f"{path}: about another model than the run's"
        statements[str(about.get("probe")), str(about["case_id"])] = statement
    yield from _overstated(run, statements)
    yield from _understated(run, statements)


def _overstated(run: Run, statements: Mapping[tuple[str, str], Statement]) -> Iterator[str]:
    """Records of more than the certificates prove."""
    said_of = _checked(run.records).dropna()
    for (probe, case), said in zip(said_of.index.tolist(), said_of.tolist(), strict=True):
        found = statements.get((probe, case))
        derived = 0.0 if found is None else found.share
        if said > derived + SLACK:
            yield (
                f"{run.folder}: the records say that {probe} proved and checked {said:.6g} of case "
                f"{case!r}, its certificate proves {derived:.6g}"
            )


def _understated(run: Run, statements: Mapping[tuple[str, str], Statement]) -> Iterator[str]:
    """Records of smaller limits than the certificates prove, or of limits without certificate."""
    asked = set(_checked(run.records).dropna().index)
    records = run.records[run.records["kind"] == "certificate"]
    limits = records[records["metric"].isin(LIMITS)].dropna(subset=["value"])
    columns = (limits[name].tolist() for name in ("probe", "case_id", "metric", "value"))
    for probe, case, metric, said in zip(*columns, strict=True):
        if (probe, case) not in asked:
            continue  # of a certifier that leaves no certificates
        found = statements.get((probe, case))
        derived = math.inf if found is None else found.limits.get(metric, math.inf)
        if said < derived:
            yield (
                f"{run.folder}: the records say that {probe} proved {metric} = {said:.9g} for "
                f"case {case!r}, its certificate proves {derived:.9g}"
            )


def _shown(paths: Sequence[Path]) -> Iterator[Path]:
    """Pass the paths on, telling a terminal how far it is."""
    for place, path in enumerate(paths, start=1):
        if sys.stderr.isatty():
            end = "\n" if place == len(paths) else ""
            print(f"\r{place} of {len(paths)} certificates", end=end, file=sys.stderr, flush=True)
        yield path
