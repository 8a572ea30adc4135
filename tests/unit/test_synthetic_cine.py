"""Simulated cases of every task: shapes, one truth however they are asked for, conventions."""

import gc
import multiprocessing
import weakref
from collections import Counter

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import robustbench_med as rb
from robustbench_med.cases import Summarised, digest_of, summarise
from robustbench_med.clinical import DIAGNOSES, UNITS, measure
from robustbench_med.errors import InputError
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_complex

SMALL = {"patients": 3, "size": 72, "pixel_mm": 2.2}
MEASURES = ("lvedv", "lvesv", "lvsv", "lvef", "lvm", "rvedv", "rvesv", "rvsv", "rvef")
TASKS = {
    "segmentation": {},
    "classification": {},
    "reconstruction": {"coils": 3},
    "super_resolution": {"slices": 2},
    "patient": {},
    "chain": {"coils": 2},
    "kspace_segmentation": {"coils": 3},
    "dynamic": {"coils": 2, "slices": 2, "frames": 3, "strip": 36},
}
KSPACE = ("reconstruction", "chain", "kspace_segmentation", "dynamic")
KINDS = {"patient": "segmentation", "chain": "segmentation", "dynamic": "reconstruction",
         "kspace_segmentation": "segmentation"}  # fmt: skip
every_task = pytest.mark.parametrize("task", TASKS)


def cohort(task="segmentation", **settings):
    return rb.build("cohorts", "synthetic_cine", **(SMALL | TASKS[task] | settings), task=task)


def tensors(case):
    return {"image": case.image, "target": case.target, **case.context}


def same(one, other):
    assert (one.case_id, one.patient_id) == (other.case_id, other.patient_id)
    assert one.attributes == other.attributes
    assert tensors(one).keys() == tensors(other).keys()
    return all(torch.equal(tensor, tensors(other)[name]) for name, tensor in tensors(one).items())


@every_task
def test_cases_have_the_shapes_types_and_bounds_of_their_task(task):
    found = cohort(task)
    low, high = found.bounds
    assert (low, high) == ((-torch.inf, torch.inf) if task in KSPACE else (0, 1))
    assert found.task.kind == KINDS.get(task, task)
    for case in (found.cases[0], found.cases[-1]):
        assert case.image.dtype == torch.float32
        assert case.image.isfinite().all()
        assert low <= case.image.min()
        assert case.image.max() <= high
        spacing = case.context["spacing"]
        assert spacing.shape == (3,)
        assert spacing[1:].tolist() == pytest.approx([2.2, 2.2])
        assert case.context.keys() == {
            "reconstruction": {"mask", "maps", "noise", "spacing"},
            "patient": {"spacing", "bsa", "male"},
            "chain": {"mask", "maps", "noise", "spacing", "bsa", "male"},
            "kspace_segmentation": {"mask", "maps", "noise", "spacing", "full"},
            "dynamic": {"mask", "maps", "noise", "spacing"},
        }.get(task, {"spacing"})
        kinds = {tensor.dtype for tensor in case.context.values()}
        assert kinds == {torch.float32}


def test_a_segmentation_case_is_a_slice_and_its_labels():
    found = cohort()
    assert found.task.classes == ("background", "lv", "myo", "rv")
    case = found.cases[2]
    assert case.image.shape == (1, 72, 72)
    assert (case.target.shape, case.target.dtype) == ((72, 72), torch.int64)
    assert case.target.unique().tolist() == [0, 1, 2, 3]
    assert case.image.max() == 1
    scanner = {"A": 10, "B": 10, "C": 8, "D": 10}
    assert case.context["spacing"][0] == scanner[case.attributes["vendor"]]


def test_a_classification_case_is_a_patient_and_a_class():
    found = cohort("classification", patients=7)
    assert found.task.classes == DIAGNOSES
    assert len(found) == 7
    for case in found.cases:
        assert case.image.shape == (6, 72, 72)
        assert case.target.shape == ()
        assert DIAGNOSES[case.target] == case.attributes["diagnosis"]
    assert {case.attributes["diagnosis"] for case in found.cases} == set(DIAGNOSES)
    assert cohort("classification", slices=2).cases[0].image.shape == (4, 72, 72)


def test_a_classification_case_holds_end_diastole_then_end_systole():
    stack = cohort("classification").cases[0].image
    labelled = cohort("patient").cases[0]
    slices = labelled.image.shape[2]
    chosen = [int((i + 0.5) / 3 * slices) for i in range(3)]
    # A patient's slices are scaled one by one, those for classification together.
    alone = labelled.image[0][:, chosen].flatten(end_dim=1)
    for one, other in zip(stack, alone, strict=True):
        ratio = (one / other)[(one < 1) & (other < 1) & (other > 0.05)]
        assert ratio.min().item() == pytest.approx(ratio.max().item(), rel=1e-4)


def test_a_patient_case_has_both_moments_of_all_slices():
    case = cohort("patient").cases[1]
    slices = case.image.shape[2]
    assert case.image.shape == (1, 2, slices, 72, 72)
    assert (case.target.shape, case.target.dtype) == ((2, slices, 72, 72), torch.int64)
    assert case.context["bsa"].item() == pytest.approx(case.attributes["bsa_m2"], abs=1e-3)
    assert case.context["male"].item() == (case.attributes["sex"] == "M")
    one_by_one = cohort(population="acdc").cases
    slices_of_it = [c for c in one_by_one if c.patient_id == case.patient_id]
    assert torch.equal(torch.stack([c.image[0] for c in slices_of_it]), case.image[0].flatten(0, 1))
    assert torch.equal(torch.stack([c.target for c in slices_of_it]), case.target.flatten(0, 1))


def test_a_chain_case_is_the_measured_slices_and_labels_of_a_patient():
    case, labelled = cohort("chain").cases[2], cohort("patient").cases[2]
    assert torch.equal(case.target, labelled.target)
    alone = cohort("reconstruction", coils=2, population="acdc").cases
    slices = [one for one in alone if one.patient_id == case.patient_id]
    z = len(slices) // 2
    assert case.image.shape == (4, 2, z, 72, 72)
    assert case.context["mask"].shape == (1, 2, z, 72, 72)
    for number, one in enumerate(slices):
        place = (slice(None), number // z, number % z)
        assert torch.equal(case.image[place], one.image)
        for name in ("mask", "maps"):
            assert torch.equal(case.context[name][place], one.context[name])


def test_a_reconstruction_case_is_what_the_coils_measured():
    found = cohort("reconstruction", slices=1, acceleration=3, centre_lines=6)
    case = found.cases[0]
    assert case.image.shape == (6, 72, 72)
    assert case.target.shape == (2, 72, 72)
    assert case.context["maps"].shape == (6, 72, 72)
    mask = case.context["mask"]
    assert mask.shape == (1, 72, 72)
    assert mask.unique().tolist() == [0, 1]
    assert mask[0, :, 0].sum() == 72 // 3
    assert (mask[0, 33:39] == 1).all()
    assert (case.image * (1 - mask) == 0).all()
    assert (case.image[:, mask[0] == 1] != 0).all()
    magnitude = case.target.square().sum(dim=0).sqrt()
    assert magnitude.flatten().quantile(0.99).item() == pytest.approx(1, abs=1e-4)
    assert "maps" not in cohort("reconstruction", coils=1).cases[0].context
    masks = [found.cases[i].context["mask"] for i in range(len(found))]
    assert not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("coils", [1, 8])
def test_fully_sampled_coils_give_back_the_true_image_but_for_the_noise(coils):
    found = cohort("reconstruction", coils=coils, acceleration=1, slices=1, fields=[3.0])
    for case in found.cases:
        maps = to_complex(case.context["maps"][None]) if coils > 1 else None
        back = adjoint(to_complex(case.image[None]), maps, case.context["mask"][None])
        # Sensitivities whose squares sum to 1 keep the deviation of the noise.
        left = torch.view_as_real(back - to_complex(case.target[None])[:, 0])
        expected = case.context["noise"].item()
        assert left.std().item() == pytest.approx(expected, rel=4 / (4 * 72**2) ** 0.5)
        assert abs(left.mean().item()) < 4 * expected / (2 * 72**2) ** 0.5
        assert expected < 0.1


def test_a_thick_slice_is_the_mean_of_its_thin_ones_up_to_resolution_and_noise():
    found = cohort("super_resolution", fields=[3.0])
    for case in (found.cases[0], found.cases[3]):
        assert case.image.shape == (1, 2, 36, 36)
        assert case.target.shape == (1, 10, 72, 72)
        assert case.context["spacing"].tolist() == pytest.approx([case_distance(case), 2.2, 2.2])
        mean = case.target[0].unflatten(0, (2, 5)).mean(dim=1)
        apart = {
            shift: (F.avg_pool2d(shifted(mean, shift)[:, None], 2)[:, 0] - case.image[0]).std()
            for shift in (-0.5, -0.25, 0, 0.25, 0.5)
        }
        assert apart[0] < 0.04
        assert min(apart, key=apart.get) == 0  # a coarse pixel covers its fine ones, and no others


def case_distance(case):
    return {"A": 10, "B": 10, "C": 8, "D": 10}[case.attributes["vendor"]] / 5


def shifted(image, pixels):
    """Move an image along both axes, by the Fourier shift theorem."""
    turns = torch.fft.fftfreq(image.shape[-1]) * pixels
    phase = torch.exp(2j * torch.pi * (turns[:, None] + turns[None]))
    return torch.fft.ifft2(torch.fft.fft2(image) * phase).real


@every_task
def test_a_case_is_the_same_whatever_was_asked_before(task):
    forwards, backwards = cohort(task, patients=2), cohort(task, patients=2)
    ahead = list(forwards.cases)
    back = [backwards.cases[i] for i in reversed(range(len(backwards)))]
    assert all(same(one, other) for one, other in zip(ahead, reversed(back), strict=True))
    assert len({case.case_id for case in ahead}) == len(ahead)


@every_task
def test_a_patient_is_the_same_however_many_there_are(task):
    few, many = cohort(task, patients=2), cohort(task, patients=5)
    assert all(same(few.cases[i], many.cases[i]) for i in (0, len(few) - 1))
    assert [few.summary(i) for i in range(len(few))] == [many.summary(i) for i in range(len(few))]


def test_another_process_makes_the_same_cases():
    here = {task: cohort(task, patients=2).cases for task in TASKS}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for cases in here.values():
            for index in (len(cases) - 1, 0):
                assert same(pool.apply(cases.__getitem__, (index,)), cases[index])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_two_workers_of_a_data_loader_make_the_same_cases_in_order():
    cases = cohort(slices=3).cases
    loader = DataLoader(cases, batch_size=4, num_workers=2, collate_fn=list)
    loaded = [case for group in loader for case in group]
    assert len(loaded) == len(cases)
    assert all(same(one, other) for one, other in zip(loaded, cases, strict=True))


def test_splits_and_seeds_share_no_patient_and_no_heart():
    found = [
        cohort(split=split, seed=seed, slices=1)
        for split in ("train", "validation", "test") for seed in (0, 1)
    ]  # fmt: skip
    hearts = [case.attributes["lvedv_ml"] for each in found for case in each.cases]
    assert len(set(hearts)) == 6 * 3
    by_split = [{case.patient_id for case in each.cases} for each in found[::2]]
    assert sum(map(len, by_split)) == len(set.union(*by_split)) == 9
    counts = cohort(patients={"train": 4, "test": 2}, split="train", slices=1)
    assert len({case.patient_id for case in counts.cases}) == 4


@every_task
def test_a_summary_tells_ids_and_attributes_without_making_the_case(task):
    found = cohort(task)
    assert isinstance(found.cases, Summarised)
    for index in (0, len(found) - 1):
        summary, case = found.summary(index), found.cases[index]
        assert (summary.case_id, summary.patient_id) == (case.case_id, case.patient_id)
        assert summary.attributes == case.attributes
    digests = {found.summary(i).digest for i in range(len(found))}
    assert len(digests) == len(found)
    assert digest_of([found.summary(-1)]) == digest_of([found.summary(len(found) - 1)])


CHANGES = {
    "segmentation": ({"seed": 1}, {"split": "train"}, {"population": "acdc"}, {"size": 80},
                     {"size": [72, 80]}, {"pixel_mm": 2.0}, {"vendors": ["B", "C"]},
                     {"fields": [0.55]}, {"frames": 5}, {"papillary": "mass"}),
    "classification": ({"slices": 2}, {"pixel_mm": 2.0}),
    "reconstruction": ({"coils": 4}, {"coils": 1}, {"acceleration": 3}, {"centre_lines": 4}),
    "super_resolution": ({"slices": 1}, {"size": 80}),
    "patient": ({"papillary": "mass"}, {"population": "normal"}),
    "chain": ({"papillary": "mass"}, {"coils": 3}, {"acceleration": 3}, {"lines": 4},
              {"lines": [4, 5]}, {"lines": [4, 6]}),
    "kspace_segmentation": ({"papillary": "mass"}, {"coils": 1}, {"lines": 4}, {"lines": [4, 5]}),
    "dynamic": ({"frames": 4}, {"frames": 2}, {"strip": 24}, {"strip": None}, {"coils": 1},
                {"acceleration": 3}, {"lines": [9, 10]}),
}  # fmt: skip


@every_task
def test_a_digest_changes_with_every_setting_that_changes_the_case(task):
    plain = cohort(task)
    # Slices of the middle have papillary muscles.
    middle = 4 if task in ("segmentation", "reconstruction", "kspace_segmentation") else 0
    known = {plain.summary(middle).digest}
    for change in CHANGES[task]:
        other = cohort(task, **change)
        digest = other.summary(middle).digest
        assert digest not in known, change
        known.add(digest)
        assert summarise(other.cases[middle]).digest != summarise(plain.cases[middle]).digest, (
            change
        )
    for change in ({"memory_mb": 1}, {"patients": 9}):
        assert cohort(task, **change).summary(middle) == plain.summary(middle)


def test_kept_cases_stay_within_the_memory_that_was_given():
    size = 72 * 72 * (4 + 8) + 3 * 4
    cases = cohort(memory_mb=3.5 * size / 2**20).cases
    made = [weakref.ref(cases[index]) for index in range(len(cases))]
    gc.collect()
    assert [case() is not None for case in made] == [False] * (len(cases) - 3) + [True] * 3
    assert cases[len(cases) - 1] is cases[-1]
    assert len(cohort(memory_mb=0).cases[:2]) == 2


def test_a_list_of_cases_is_a_sequence():
    cases = cohort(slices=1).cases
    assert len(cases) == len(list(cases)) == 6
    assert same(cases[-1], cases[5])
    assert [case.case_id for case in cases[1:6:2]] == [cases[i].case_id for i in (1, 3, 5)]
    for index in (6, -7):
        with pytest.raises(IndexError):
            cases[index]
        with pytest.raises(IndexError):
            cases.summary(index)


def test_more_frames_show_the_heart_over_its_cycle():
    found = cohort(patients=1, frames=10, slices=1)
    assert [case.attributes["phase"] for case in found.cases] == [f"t{i:02}" for i in range(10)]
    cavity = [(case.target == 1).sum().item() for case in found.cases]
    ends = cohort(patients=1, slices=1).cases
    assert torch.equal(found.cases[0].target, ends[0].target)
    assert cavity.index(min(cavity)) == 4  # end-systole is at 36 % of the cycle
    assert cavity[:5] == sorted(cavity[:5], reverse=True)
    assert cavity[4:] == sorted(cavity[4:])
    assert (ends[1].target == 1).sum() <= min(cavity)


def test_slices_are_chosen_evenly():
    every = [c.attributes["z"] for c in cohort(patients=1).cases if c.attributes["phase"] == "ED"]
    assert every == list(range(len(every)))
    (one,) = {c.attributes["z"] for c in cohort(patients=1, slices=1).cases}
    assert one == len(every) // 2
    three = [c.attributes["z"] for c in cohort(patients=1, slices=3).cases][:3]
    assert three == [int((i + 0.5) / 3 * len(every)) for i in range(3)]
    assert len(cohort(patients=1, slices=99)) == len(cohort(patients=1))
    # A network of patients needs the same number of slices of each: some come twice.
    assert cohort("classification", patients=1, slices=20).cases[0].image.shape[0] == 40


def test_attributes_tell_who_where_and_the_true_measures():
    case = cohort(fields=[0.55], vendors=["D"]).cases[0]
    told = case.attributes
    assert (told["vendor"], told["field"], told["split"]) == ("D", "0.55 T", "test")
    assert (told["diagnosis"], told["papillary"]) == ("normal", "cavity")
    assert told["age_band"] in ("45-59", "60-74")
    low, high = map(int, told["age_band"].split("-"))
    assert low <= told["age_years"] <= high
    suffix = {"mL": "ml", "g": "g", "%": "percent"}
    assert {f"{name}_{suffix[UNITS[name]]}" for name in MEASURES} <= told.keys()
    assert told["lvsv_ml"] == pytest.approx(told["lvedv_ml"] - told["lvesv_ml"], abs=0.002)


@pytest.mark.parametrize("papillary", ["cavity", "mass"])
def test_true_measures_are_those_of_the_labels(papillary):
    for case in cohort("patient", patients=5, papillary=papillary, size=96, pixel_mm=2).cases:
        counted = measure(case.target.numpy(), case.context["spacing"].numpy())
        for name in ("lvedv", "lvesv", "lvm", "rvedv", "rvesv"):
            told = case.attributes[f"{name}_{'g' if name == 'lvm' else 'ml'}"]
            assert getattr(counted, name) == pytest.approx(told, rel=0.03), (name, case.case_id)


def test_papillary_muscles_move_from_cavity_to_wall_in_labels_and_attributes():
    cavity, mass = (cohort("patient", papillary=word).cases[0] for word in ("cavity", "mass"))
    assert torch.equal(cavity.image, mass.image)
    changed = cavity.target != mass.target
    assert changed[0].any()
    assert changed[1].any()
    assert set(cavity.target[changed].tolist()) == {1}
    assert set(mass.target[changed].tolist()) == {2}
    one, other = cavity.attributes, mass.attributes
    moved = one["lvedv_ml"] - other["lvedv_ml"]
    assert moved == pytest.approx(0.04 * one["lvedv_ml"], abs=0.002)
    assert one["lvesv_ml"] - other["lvesv_ml"] == pytest.approx(moved, abs=0.002)
    assert other["lvm_g"] - one["lvm_g"] == pytest.approx(1.05 * moved, abs=0.003)
    assert one["rvedv_ml"] == other["rvedv_ml"]
    assert (one["papillary"], other["papillary"]) == ("cavity", "mass")


def test_classification_needs_patients_with_diagnoses():
    with pytest.raises(InputError, match="classification needs population 'acdc', got 'normal'"):
        cohort("classification", population="normal")


def people(found):
    """Attributes of each patient, in order."""
    summaries = [found.summary(i) for i in range(len(found))]
    return {each.patient_id: each.attributes for each in summaries}


@pytest.mark.parametrize("task", ["segmentation", "patient"])
def test_shares_of_sexes_and_ancestries_come_out_as_asked(task):
    found = cohort(task, patients=40, sexes={"F": 0.05, "M": 0.95}, slices=None,
                   ancestries={"group 1": 0.8, "group 3": 0.2})  # fmt: skip
    known = people(found).values()
    assert Counter(each["sex"] for each in known) == {"M": 38, "F": 2}
    assert Counter(each["ancestry"] for each in known) == {"group 1": 32, "group 3": 8}
    assert {each["sex"] for each in people(cohort(task, sexes=["F"])).values()} == {"F"}


def test_a_planted_sex_is_no_disguised_diagnosis():
    known = people(cohort("classification", patients=50, sexes={"F": 0.2, "M": 0.8})).values()
    counts = Counter((each["diagnosis"], each["sex"]) for each in known)
    for diagnosis in DIAGNOSES:
        assert (counts[diagnosis, "F"], counts[diagnosis, "M"]) == (2, 8)


def test_chosen_patients_are_those_of_the_same_number_with_the_same_cases():
    every, women = cohort(patients=12), cohort(patients=3, sexes=["F"])
    known = {every.summary(i).case_id: i for i in range(len(every))}
    for index in range(len(women)):
        place = known[women.summary(index).case_id]
        assert women.summary(index) == every.summary(place)
    assert same(women.cases[-1], every.cases[place])
    assert women.summary(-1) == every.summary(place)
    first = [case.case_id for case in women.cases[:2]]
    assert first == [women.summary(i).case_id for i in range(2)]


def test_chosen_patients_stay_when_more_are_chosen_and_splits_share_nobody():
    shares = {"sexes": {"F": 0.3, "M": 0.7}, "ancestries": ["group 1", "group 2"], "slices": 1}
    few, many = cohort(patients=10, **shares), cohort(patients=25, **shares)
    assert [many.summary(i) for i in range(len(few))] == [few.summary(i) for i in range(len(few))]
    train = cohort(patients=25, split="train", **shares)
    assert not people(train).keys() & people(many).keys()
    assert len(people(many)) == 25
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(pool.apply(many.cases.__getitem__, (7,)), many.cases[7])


def test_shares_vendors_and_fields_may_differ_by_split():
    plan = {
        "patients": {"train": 20, "test": 10}, "slices": 1,
        "vendors": {"train": ["A"], "test": ["B", "C"]},
        "fields": {"train": [3.0], "test": [1.5]},
        "sexes": {"train": {"F": 0.05, "M": 0.95}, "test": ["F", "M"]},
    }  # fmt: skip
    train, test = (people(cohort(split=s, **plan)).values() for s in ("train", "test"))
    assert Counter(each["sex"] for each in train) == {"M": 19, "F": 1}
    assert Counter(each["sex"] for each in test) == {"M": 5, "F": 5}
    assert {(each["vendor"], each["field"]) for each in train} == {("A", "3 T")}
    assert {each["vendor"] for each in test} <= {"B", "C"}
    alone = cohort(split="train", patients=20, slices=1, vendors=["A"], fields=[3.0],
                   sexes={"F": 0.05, "M": 0.95})  # fmt: skip
    assert alone.summary(0) == cohort(split="train", **plan).summary(0)
