"""The ledger of looks: how often results of the same cases have been seen, by which models.

It lies beside the run folders, one line per look, each with the hash of the line before it. An
edit, a line taken out of the middle or a torn line shows; a ledger whose end is cut off, or that
is deleted as a whole, does not.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_med.errors import InputError
from robustbench_med.runfolder import Run

FILE = "ledger.jsonl"
WHAT = ("run", "cohort", "model", "plan", "policy")
NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Looks:
    """How often the same cases have been looked at.

    Attributes:
        number: Of looks.
        models: How many different models they were at.
        intact: Whether every line of the ledger is whole and follows from the one before.
    """

    number: int
    models: int
    intact: bool


def look(run: Run, manifest: Mapping[str, Any], at: str) -> Looks:
    """Enter a run that has come to its estimates, and count the looks at its cases, itself too.

    The same plan, model, policy and cases in a run of the same name show nothing new: no line is
    added. Two runs at once both get their lines, one after the other.

    Args:
        run: Its folder lies beside the ledger.
        manifest: Of the run, with its digests.
        at: The time, as text.

    Raises:
        InputError: If the ledger cannot be read or written.
    """
    entry = {
        "time": at,
        "run": manifest["name"],
        "cohort": manifest["digests"]["cohort"],
        "model": manifest["digests"]["model"],
        "plan": manifest["plan_digest"],
        "policy": manifest["digests"]["policy"],
    }
    with _opened(run) as file:
        content = _read(file)
        if not any(_same(entry, there) for there in _entries(content)):
            addition = _line(entry, content)
            os.write(file, addition)
            content += addition
    return _counted(content, entry["cohort"])


def check_ledger(run: Run) -> None:
    """Make the ledger if it is not there; `InputError` if it could not be written to later."""
    with _opened(run):
        pass


def looks(folder: Path, cohort: str) -> Looks:
    """Count the looks at the cohort of that digest, by the ledger in `folder`; none, without one.

    Raises:
        InputError: If the ledger cannot be read.
    """
    path = folder / FILE
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return _counted(content, cohort)


def _counted(content: bytes, cohort: str) -> Looks:
    entries = [entry for entry in _entries(content) if entry.get("cohort") == cohort]
    models = {str(entry.get("model")) for entry in entries}
    return Looks(len(entries), len(models), _is_intact(content))


@contextmanager
def _opened(run: Run) -> Iterator[int]:
    """The ledger, for this process alone where the file system can grant that."""
    path = run.folder.resolve().parent / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; give a folder that can be written to"
        ) from error


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(os.dup(file), "rb") as reading:
        return reading.read()


def _line(entry: Mapping[str, Any], content: bytes) -> bytes:
    """The next line; it starts anew after a line that was torn."""
    before = _lines(content)
    linked = {**entry, "previous": hashlib.sha256(before[-1]).hexdigest() if before else NOTHING}
    start = b"" if content.endswith(b"\n") or not content else b"\n"
    return start + json.dumps(linked, sort_keys=True).encode() + b"\n"


def _lines(content: bytes) -> Sequence[bytes]:
    return content.removesuffix(b"\n").split(b"\n") if content else []


def _entries(content: bytes) -> list[dict[str, Any]]:
    """The lines that can be read."""
    found = (_parsed(line) for line in _lines(content))
    return [entry for entry in found if entry is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _same(entry: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return all(entry[key] == there.get(key) for key in WHAT)


def _is_intact(content: bytes) -> bool:
    previous = NOTHING
    for line in _lines(content):
        entry = _parsed(line)
        if entry is None or entry.get("previous") != previous:
            return False
        previous = hashlib.sha256(line).hexdigest()
    return not content or content.endswith(b"\n")
