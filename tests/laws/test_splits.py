"""What holds of every split by an attribute, and of every share of a simulated population."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_med.cohorts.entry import Entry
from robustbench_med.cohorts.found import Found, contradictions
from robustbench_med.cohorts.held_out import HeldOut
from robustbench_med.cohorts.quota import Quota, chosen_numbers, read_quota
from robustbench_med.cohorts.table import Row, Table
from robustbench_med.physics.patient import ANCESTRIES, Person

few = settings(max_examples=100, deadline=None, derandomize=True)
VENDORS = ("A", "B", "C", "")
TABLE = Table(Path("cases.csv"), ("vendor",), ())
cells = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(VENDORS)), min_size=1, max_size=40)
sides = st.builds(
    HeldOut,
    key=st.sampled_from(["leave_out", "train_on"]),
    attribute=st.just("vendor"),
    values=st.sampled_from([("A",), ("B", "C")]),
    val=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 5),
    unknown=st.sampled_from([None, "train", "test"]),
)


def found_of(pairs):
    """Cases of (patient, vendor), a line each."""
    return [
        Found(Row(line, {"vendor": vendor}), Entry(f"c{line}", f"p{who}", Path(), None, (), {}))
        for line, (who, vendor) in enumerate(pairs, start=2)
    ]


def patients_of(partition, found):
    """Patients by split."""
    by_split = {}
    for each, split in zip(found, partition.splits(found), strict=True):
        by_split.setdefault(split, set()).add(each.entry.patient_id)
    return by_split


@few
@given(cells, sides)
def test_splits_share_no_patient_and_together_are_all_whose_side_is_known(pairs, partition):
    found = found_of(pairs)
    by_split = patients_of(partition, found)
    assert sum(map(len, by_split.values())) == len(set.union(*by_split.values()))
    assert set(by_split) <= {*partition.names([]), ""}
    recorded = {each.entry.patient_id for each in found if each.row.cells["vendor"]}
    everybody = {each.entry.patient_id for each in found}
    assert by_split.get("", set()) == (set() if partition.unknown else everybody - recorded)


@few
@given(cells, sides, st.randoms(use_true_random=False))
def test_neither_the_order_of_the_rows_nor_other_patients_matter(pairs, partition, random):
    found = found_of(pairs)
    known = {e.entry.case_id: s for e, s in zip(found, partition.splits(found), strict=True)}
    shuffled = random.sample(found, len(found))
    again = zip(shuffled, partition.splits(shuffled), strict=True)
    assert {each.entry.case_id: split for each, split in again} == known
    alone = [each for each in found if each.entry.patient_id == found[0].entry.patient_id]
    assert partition.splits(alone) == [known[each.entry.case_id] for each in alone]


@few
@given(cells, sides)
def test_who_has_a_value_is_on_its_side_and_whoever_is_on_both_is_named(pairs, partition):
    found = found_of(pairs)
    by_split = patients_of(partition, found)
    training = by_split.get("train", set()) | by_split.get("val", set())
    named = {"leave_out": by_split.get("test", set()), "train_on": training}[partition.key]
    have, have_not = (
        {e.entry.patient_id for e in found if e.row.cells["vendor"] in vendors}
        for vendors in (partition.values, {*VENDORS} - {"", *partition.values})
    )
    assert have <= named
    assert not (have_not - have) & named
    lines = partition.problems(TABLE, found)
    assert len(lines) == len(have & have_not)
    assert all(any(f"patient {who!r}:" in line for line in lines) for who in have & have_not)


@few
@given(cells)
def test_contradictions_are_one_line_a_patient_with_two_values(pairs):
    found = found_of(pairs)
    values = {}
    for who, vendor in pairs:
        values.setdefault(who, set()).update({vendor} - {""})
    lines = contradictions(TABLE, found, ["vendor"])
    assert len(lines) == sum(len(each) > 1 for each in values.values())


def person(number):
    """Somebody whose sex and ancestry are drawn by number."""
    mixed = number * 2654435761 % 2**32 >> 7
    return Person("FM"[mixed % 2], 50, 170, 70, ANCESTRIES[mixed // 2 % 3])


weights = st.lists(st.integers(0, 20), min_size=2, max_size=3).filter(any)


@few
@given(weights, st.integers(1, 5), st.integers(1, 120))
def test_every_share_is_met_to_within_a_patient_at_every_length(weight, classes, patients):
    legal = ("F", "M") if len(weight) == 2 else ANCESTRIES
    shares = {name: w / sum(weight) for name, w in zip(legal, weight, strict=True) if w}
    attribute = "sex" if len(weight) == 2 else "ancestry"
    numbers = chosen_numbers(person, patients, classes, [Quota(attribute, shares)])
    assert len(set(numbers)) == patients
    assert [number % classes for number in numbers] == [i % classes for i in range(patients)]
    chosen = [getattr(person(number), attribute) for number in numbers]
    assert set(chosen) <= set(shares)
    for length in range(1, patients + 1):
        counts = Counter(chosen[:length])
        assert all(abs(counts[name] - share * length) < 1 for name, share in shares.items())
    for turn in range(classes):
        mine = Counter(chosen[turn::classes])
        assert all(abs(mine[v] - share * mine.total()) < 4 for v, share in shares.items())


@few
@given(st.integers(0, 20), st.lists(st.integers(1, 9), min_size=3, max_size=3), st.integers(2, 90))
def test_a_choice_by_two_attributes_is_the_beginning_of_every_longer_one(women, weight, patients):
    quotas = [
        *read_quota("sexes", "sex", "FM", {"F": women / 20, "M": 1 - women / 20}),
        Quota("ancestry", {a: w / sum(weight) for a, w in zip(ANCESTRIES, weight, strict=True)}),
    ]
    many = chosen_numbers(person, patients, 5, quotas)
    assert chosen_numbers(person, patients // 2, 5, quotas) == many[: patients // 2]
    people = [person(number) for number in many]
    assert abs(sum(p.sex == "F" for p in people) - women / 20 * patients) < 1
    for name, share in quotas[1].shares.items():
        assert abs(sum(p.ancestry == name for p in people) - share * patients) < 2
        both = sum(p.sex == "F" and p.ancestry == name for p in people)
        assert abs(both - women / 20 * share * patients) < 5


@pytest.mark.parametrize("asked", [["F", "M"], {"M": 0.5, "F": 0.5}])
def test_equal_shares_have_one_spelling_and_one_order(asked):
    (quota,) = read_quota("sexes", "sex", ("F", "M"), asked)
    assert list(quota.shares.items()) == [("F", 0.5), ("M", 0.5)]
