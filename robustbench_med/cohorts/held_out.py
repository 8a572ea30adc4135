"""Splits by an attribute: patients of one site, vendor or sex apart from all others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from robustbench_med.cohorts.found import Found, told, values_of_patients
from robustbench_med.cohorts.fraction import fraction
from robustbench_med.cohorts.labels import plain
from robustbench_med.cohorts.problems import attempt
from robustbench_med.cohorts.table import Row, Table
from robustbench_med.components import suggest
from robustbench_med.errors import InputError, raise_together

SIDES = {"leave_out": "test", "train_on": "train"}
OTHER = {"test": "train", "train": "test"}
KEYS = (*SIDES, "val", "seed", "unknown")


@dataclass(frozen=True)
class HeldOut:
    """Two sides by one attribute of the patients, and perhaps a part of the training side.

    Attributes:
        key: `leave_out`: patients with one of `values` are tested, all others are trained on.
            `train_on`: the reverse.
        attribute: A band, or a column of the table.
        values: In one spelling, as `plain` gives it.
        val: Share of the training side that is drawn, patient by patient, as split `val`.
        seed: Of that draw.
        unknown: Side of the patients of whom nothing is recorded; None: they are in no split.
    """

    key: str
    attribute: str
    values: tuple[str, ...]
    val: float = 0.0
    seed: int = 0
    unknown: str | None = None

    def names(self, rows: Sequence[Row]) -> list[str]:  # noqa: ARG002 (as `Recorded.names`)
        """Return the names of the splits."""
        return ["train", *(["val"] if self.val else []), "test"]

    def splits(self, found: Sequence[Found]) -> list[str]:
        """Return each case's split, empty where it is in none; a patient has one split."""
        values = values_of_patients(found, self.attribute)
        placed = {patient_id: self._split(patient_id, values[patient_id]) for patient_id in values}
        return [placed[each.entry.patient_id] for each in found]

    def problems(self, table: Table, found: Sequence[Found]) -> list[str]:
        """Complain of every patient on both sides."""
        return [
            f"{table.path.name}: patient {patient_id!r}: {self.attribute} is {told(values)}, so on "
            f"both sides of {self.key}; mend the table, or drop some of the cases with where"
            for patient_id, values in values_of_patients(found, self.attribute).items()
            if len({value in self.values for value in values}) > 1
        ]

    def absent(self, found: Sequence[Found]) -> list[str]:
        """Complain of every value that nobody has."""
        values = values_of_patients(found, self.attribute).values()
        known = sorted({value for each in values for value in each})
        return [
            f"splits: {self.key}: no case has {self.attribute} {value!r}; {suggest(value, known)}"
            for value in self.values
            if value not in known
        ]

    def hint(self, found: Sequence[Found]) -> str:
        """Say how many patients are in no split, and how to place them."""
        values = values_of_patients(found, self.attribute)
        count = sum(not each for each in values.values())
        if not count or self.unknown is not None:
            return ""
        return (
            f"; {count} patients without {self.attribute} are in no split: state unknown = "
            '"train" or "test" to place them'
        )

    def _split(self, patient_id: str, values: Collection[str]) -> str:
        named = SIDES[self.key]
        if values:
            side = named if any(value in self.values for value in values) else OTHER[named]
        else:
            side = self.unknown or ""
        return "val" if side == "train" and fraction(self.seed, patient_id) < self.val else side


def read_held_out(splits: Mapping[str, object]) -> HeldOut:
    """Read `{ leave_out = { vendor = "B" }, val = 0.2, seed = 0, unknown = "train" }`.

    Raises:
        InputError: With a line for everything that is wrong with it.
    """
    problems = [f"splits: no {key!r}; {suggest(key, KEYS)}" for key in splits if key not in KEYS]
    first, *more = (key for key in SIDES if key in splits)
    if more:
        problems.append(f"splits: expected one of {' and '.join(SIDES)}, got both")
    attribute, values = attempt(problems, partial(_condition, first, splits[first])) or ("", ())
    val = attempt(problems, partial(_val, splits.get("val", 0)))
    seed = attempt(problems, partial(read_seed, splits.get("seed", 0)))
    unknown = attempt(problems, partial(_unknown, splits.get("unknown", "")))
    raise_together(problems)
    return HeldOut(first, attribute, values, val or 0.0, seed or 0, unknown or None)


def read_seed(seed: object) -> int:
    """Read the seed of a draw; `InputError` if it is no integer."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"splits: seed must be an integer, got {seed!r}")
    return seed


def _val(val: object) -> float:
    if isinstance(val, bool) or not isinstance(val, int | float) or not 0 <= val < 1:
        raise InputError(f"splits: val: expected a share from 0 to below 1, got {val!r}")
    return float(val)


def _unknown(side: object) -> str:
    if not isinstance(side, str) or side not in ("", *OTHER):
        raise InputError(f"splits: unknown: expected train or test, got {side!r}")
    return side


def _condition(key: str, asked: object) -> tuple[str, tuple[str, ...]]:
    """The attribute and its values."""
    pairs = list(asked.items()) if isinstance(asked, Mapping) else []
    attribute, values = pairs[0] if len(pairs) == 1 else ("", [])
    several = values if isinstance(values, list | tuple) else [values]
    good = all(isinstance(v, str | int | float) and str(v).strip() for v in several)
    if not attribute or not several or not good:
        raise InputError(
            f"splits: {key}: expected one attribute with a value or a list of them, such as "
            f'{{ vendor = "B" }}, got {asked!r}'
        )
    return str(attribute), tuple(plain(value) for value in several)
