"""Patients chosen by number, so that sexes or ancestries have the shares that are asked for."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isclose

from robustbench_med.components import suggest
from robustbench_med.errors import InputError
from robustbench_med.physics.patient import Person

ROUNDING = 1e-9


@dataclass(frozen=True)
class Quota:
    """Shares of the values of one attribute.

    Attributes:
        attribute: Of `Person`, `sex` or `ancestry`.
        shares: By value, each above 0; they sum to 1.
    """

    attribute: str
    shares: Mapping[str, float]


def read_quota(key: str, attribute: str, legal: Sequence[str], asked: object) -> list[Quota]:
    """Read `{ F = 0.05, M = 0.95 }`, or the list of values that are equally many.

    Args:
        key: Of the plan, for messages.
        attribute: See `Quota`.
        legal: All values there are.
        asked: None for no quota.

    Returns:
        The quota, its values in the order of `legal`; nothing for None.

    Raises:
        InputError: If it is neither, a value is unknown, or the shares do not sum to 1.
    """
    if asked is None:
        return []
    if isinstance(asked, list | tuple) and all(isinstance(value, str) for value in asked):
        asked = {value: 1 / len(asked) for value in asked}
    if not isinstance(asked, Mapping) or not asked:
        raise InputError(f"synthetic_cine: {key}: expected shares or a list, got {asked!r}")
    for value, share in asked.items():
        if value not in legal:
            hint = suggest(str(value), legal)
            raise InputError(f"synthetic_cine: {key}: no {value!r}; {hint}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(
                f"synthetic_cine: {key}: {value}: expected a share from 0 to 1, got {share!r}"
            )
    if not isclose(sum(asked.values()), 1, abs_tol=1e-6):
        raise InputError(f"synthetic_cine: {key}: shares must sum to 1, got {dict(asked)}")
    return [Quota(attribute, {v: float(asked[v]) for v in legal if asked.get(v)})]


def chosen_numbers(
    person_of: Callable[[int], Person], patients: int, classes: int, quotas: Sequence[Quota]
) -> list[int]:
    """Choose patients by number so that every share is met, overall and class by class.

    Patient after patient, the next class in turn gets the values that lag most behind their
    shares in all patients, in that class and beside the values already chosen, as long as no
    value strays a whole patient from its share of all patients. The first number of that class
    whose person has these values, and who was not chosen before, is taken. So a choice is the
    beginning of every longer one.

    Args:
        person_of: The person of a number; the class of number `n` is `n % classes`.
        patients: How many to choose.
        classes: Diagnoses, in turn.
        quotas: At least one.

    Source: minimisation (Pocock and Simon, Biometrics 31, 1975, doi:10.2307/2529712), here with
    unequal shares and without chance.
    """
    upcoming = [count(turn, classes) for turn in range(classes)]
    waiting: dict[Hashable, deque[int]] = defaultdict(deque)
    placed: Counter[Hashable] = Counter()
    numbers = []
    for place in range(patients):
        turn = place % classes
        wanted = (turn, _wanted(quotas, turn, placed))
        while not waiting[wanted]:
            number = next(upcoming[turn])
            person = person_of(number)
            values = tuple(getattr(person, quota.attribute) for quota in quotas)
            waiting[turn, values].append(number)
        numbers.append(waiting[wanted].popleft())
    return numbers


def _wanted(quotas: Sequence[Quota], turn: int, placed: Counter[Hashable]) -> tuple[str, ...]:
    """Values of the next patient, counted in `placed` by quota, stratum and value."""
    strata: list[Hashable] = ["all", turn]
    values: list[str] = []
    for quota in quotas:
        value = _owed(quota, strata, placed)
        placed.update((quota.attribute, stratum, value) for stratum in strata)
        values.append(value)
        strata.append(value)
    return tuple(values)


def _owed(quota: Quota, strata: Sequence[Hashable], placed: Counter[Hashable]) -> str:
    """Value that lags most, summed over the strata; the first stratum is everybody."""
    lags: dict[str, list[float]] = {value: [] for value in quota.shares}
    for stratum in strata:
        counts = {value: placed[quota.attribute, stratum, value] for value in quota.shares}
        after = sum(counts.values()) + 1
        for value, share in quota.shares.items():
            lags[value].append(share * after - counts[value])

    def stays_near(chosen: str) -> bool:
        rest = (lag[0] - (value == chosen) for value, lag in lags.items())
        return all(abs(strayed) < 1 - ROUNDING for strayed in rest)

    near = [value for value in lags if stays_near(value)] or list(lags)
    return max(near, key=lambda value: sum(lags[value]))
