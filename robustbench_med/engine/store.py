"""Finished cells on disk: one parquet file each, its failures and seconds in its footer."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import pyarrow as pa

from robustbench_med.engine.cells import Cell
from robustbench_med.engine.evaluate import Failure
from robustbench_med.errors import IntegrityError
from robustbench_med.probes import Record
from robustbench_med.proofs.certificate_files import NETWORKS, save_certificate
from robustbench_med.proofs.statement import AnyCertificate
from robustbench_med.runfolder import CERTIFICATES, FAILURES, RECORDS, read_table, write_table


@dataclass(frozen=True)
class Outcome:
    """What a cell gave."""

    records: tuple[Record, ...]
    failures: tuple[Failure, ...]
    seconds: float


def is_stored(folder: Path, cell: Cell) -> bool:
    """Whether the cell's file is there; files are renamed into place, so it is whole."""
    return _path(folder, cell).is_file()


def save(folder: Path, cell: Cell, outcome: Outcome) -> None:
    """Write one cell's file."""
    footer = {
        "failures": json.dumps([asdict(failure) for failure in outcome.failures]),
        "seconds": repr(outcome.seconds),
    }
    table = _table(RECORDS, [astuple(record) for record in outcome.records])
    write_table(_path(folder, cell), table.replace_schema_metadata(footer))


def keeping(folder: Path, cell: Cell) -> Callable[[str, AnyCertificate], None]:
    """What writes a cell's certificates, beside the folder of the cells."""

    def keep(case_id: str, certificate: AnyCertificate) -> None:
        about = {**certificate.about, "case_id": case_id, "probe": cell.probe.name}
        kept = replace(certificate, about=about)
        save_certificate(folder.parent / CERTIFICATES, cell.digest, kept)

    return keep


def merge(folder: Path, cells: Sequence[Cell]) -> tuple[pa.Table, pa.Table, dict[str, float]]:
    """Join the cells' records and failures, in the cells' order, and seconds by probe.

    Raises:
        IntegrityError: If a cell's file is not what was written.
    """
    records, failures, seconds = [], [], dict.fromkeys((c.probe.name for c in cells), 0.0)
    for cell in cells:
        table, failed, spent = _read(_path(folder, cell))
        records.append(table)
        failures += failed
        seconds[cell.probe.name] += spent
    joined = pa.concat_tables(records) if records else RECORDS.empty_table()
    return joined, _table(FAILURES, [astuple(failure) for failure in failures]), seconds


def prune(folder: Path, cells: Iterable[Cell]) -> None:
    """Delete the files of cells that the plan no longer asks for."""
    wanted = {_path(folder, cell) for cell in cells}
    for path in folder.glob("*.parquet"):
        if path not in wanted:
            path.unlink()
    for path in folder.glob(".*.partial"):
        path.unlink()
    kept = {NETWORKS, *(path.stem for path in wanted)}
    for group in (folder.parent / CERTIFICATES).glob("*"):
        if group.name not in kept:
            shutil.rmtree(group)


def _path(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.digest}.parquet"


def _read(path: Path) -> tuple[pa.Table, list[Failure], float]:
    """A cell's records, failures and seconds."""
    try:
        table = read_table(path)
        footer = table.schema.metadata or {}
        failures = [Failure(**row) for row in json.loads(footer[b"failures"])]
        seconds = float(footer[b"seconds"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: a finished cell cannot be read; delete it and run again: "
                             f"{str(error).splitlines()[0]}") from error  # fmt: skip
    if table.schema.remove_metadata() != RECORDS:
        raise IntegrityError(f"{path}: not a cell's table; delete it and run again")
    return table.replace_schema_metadata(None), failures, seconds


def _table(schema: pa.Schema, rows: list[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
