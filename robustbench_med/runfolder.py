"""The run folder: its paths, its tables' columns, and how each file is written whole.

manifest.json       resolved plan, digests, versions, hardware, timings, state
cases.parquet       one row per case: ids, split, attributes
records/*.parquet   one file per cell: a probe on a shard of cases
certificates/       what proves a case, one file each, and the networks they are about
records.parquet     all cells, once the run is complete
failures.parquet    cases that a probe could not score, and why
estimates.parquet   what the reports print of every probe, metric and group
gaps.parquet        of every subgroup as a whole: do its groups differ, which is worst
search.parquet      of every group searched among the attributes to explore
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_med.errors import InputError, IntegrityError

if TYPE_CHECKING:
    import pandas as pd

RECORDS = pa.schema(
    [
        ("case_id", pa.string()),
        ("probe", pa.string()),
        ("kind", pa.string()),
        ("level", pa.float64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
FAILURES = pa.schema(
    [
        ("case_id", pa.string()),
        ("probe", pa.string()),
        ("kind", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)
SCHEMA_VERSION = 1
CERTIFICATES = "certificates"
NEEDED = ("schema_version", "name", "state", "plan")


@dataclass(frozen=True)
class Run:
    """A run folder, read when asked for. Nothing here needs torch.

    Attributes:
        folder: Where the run lies.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Open a run folder.

        Raises:
            InputError: If there is no readable manifest in it.
        """
        run = cls(Path(folder))
        if not run.manifest_path.is_file():
            raise InputError(f"run {folder}: expected a run folder with manifest.json, found none")
        version = run.manifest.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"run {folder}: expected schema version {SCHEMA_VERSION}, got {version}; "
                "read it with the release that wrote it"
            )
        return run

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.folder / "manifest.json"

    @property
    def cells_folder(self) -> Path:
        """Where one file per finished cell lies."""
        return self.folder / "records"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What ran, on what, and how it ended."""
        try:
            manifest: Any = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.manifest_path}: not JSON: {error}") from error
        lacks = [key for key in NEEDED if not isinstance(manifest, dict) or key not in manifest]
        if lacks:
            raise InputError(
                f"{self.manifest_path}: expected the manifest of a run, found no {lacks[0]!r}; "
                "give the folder of a run, or another folder for a new one"
            )
        return dict(manifest)

    @cached_property
    def cases(self) -> "pd.DataFrame":
        """One row per case: `case_id, patient_id, split`, then every attribute."""
        return self._table("cases.parquet")

    @cached_property
    def records(self) -> "pd.DataFrame":
        """One row per number: `case_id, probe, kind, level, metric, value`."""
        return self._table("records.parquet")

    @cached_property
    def failures(self) -> "pd.DataFrame":
        """One row per case that a probe could not score."""
        return self._table("failures.parquet")

    @cached_property
    def estimates(self) -> "pd.DataFrame":
        """One row per number that the reports print."""
        return self._table("estimates.parquet")

    @cached_property
    def gaps(self) -> "pd.DataFrame":
        """One row per probe, metric and subgroup with groups to compare."""
        return self._table("gaps.parquet")

    @cached_property
    def search(self) -> "pd.DataFrame":
        """One row per probe, metric and group that was searched."""
        return self._table("search.parquet")

    def _table(self, name: str) -> "pd.DataFrame":
        path = self.folder / name
        if not path.is_file():
            state = self.manifest.get("state", "unknown")
            raise InputError(f"{path}: not there; the run is {state}: run its plan again")
        written = self.manifest.get("files", {}).get(name)
        if written is not None and written != file_digest(path):
            raise IntegrityError(
                f"{path}: altered since the run wrote it: its SHA-256 is not the manifest's; "
                "run the plan again"
            )
        try:
            table: pd.DataFrame = read_table(path).to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(f"{path}: not a readable parquet file: {error}") from error
        return table


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path) -> pa.Table:
    """Read a parquet file, holding every page against its checksum."""
    return pq.read_table(path, page_checksum_verification=True)


def intact(path: Path) -> pa.Table | None:
    """A parquet file's table; None if it cannot be read."""
    try:
        return read_table(path)
    except (pa.ArrowException, OSError):
        return None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file so that it is there whole or not at all."""

    def write(partial: Path) -> None:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)

    write_whole(path, write)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that it is there whole or not at all.

    JSON has no infinity and no NaN; they become the texts "inf", "-inf" and "nan", which
    `float` reads.
    """
    text = json.dumps(_plain(content), indent=1, sort_keys=True, ensure_ascii=False)
    write_text(path, text + "\n")


def _plain(content: Any) -> Any:  # noqa: ANN401
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Any) -> None:  # noqa: ANN401
    """Let `write` fill a temporary file beside `path`, then rename it.

    Raises:
        InputError: If the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        raise InputError(
            f"{path}: cannot be written: {reason}; give a folder that can be written to"
        ) from error
