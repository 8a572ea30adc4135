"""Differences between splits against other libraries, closed forms, enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import contingency, ks_1samp, uniform
from scipy.stats.contingency import association
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from robustbench_med.cases import Case, Task
from robustbench_med.overlap.confounding import confounding, cramers_v
from robustbench_med.overlap.divergence import as_json, differences
from robustbench_med.overlap.features import FEATURES, features_of, noise_of, spectrum_slope
from robustbench_med.overlap.permutation import dealt_sums, holm, p_value
from robustbench_med.overlap.traits import MISSING, OTHERS, Units, trait_of, traits_of
from robustbench_med.overlap.truth import truth_of
from robustbench_med.overlap.twosample import auc, logistic, separation


def units(test, train, per_patient=1):
    """Units of `test` and `train` patients with so many cases each."""
    count = test + train
    of_case = np.repeat(np.arange(count), per_patient)
    return Units(of_case, np.arange(count) < test, np.arange(count))


def rng():
    return np.random.default_rng(4)


def test_a_trait_of_texts_is_each_patients_share_of_every_value():
    who = Units(np.array([0, 0, 0, 1, 2]), np.array([True, False, False]), np.arange(3))
    trait = trait_of("view", ["AP", "AP", "PA", None, "PA"], who)
    assert trait.values == ("AP", "PA", MISSING)
    assert trait.columns == pytest.approx(np.array([[2 / 3, 1 / 3, 0], [0, 0, 1], [0, 1, 0]]))


def test_a_trait_of_numbers_is_each_patients_mean_where_it_is_known():
    who = Units(np.array([0, 0, 1, 2]), np.array([True, False, False]), np.arange(3))
    trait = trait_of("age", [60.5, 61.5, math.nan, None], who)
    assert trait.values == ()
    assert trait.columns.tolist() == [[61, 1], [0, 0], [0, 0]]
    assert trait.known.tolist() == [True, False, False]


def test_whole_numbers_are_values_while_few_and_sizes_when_many():
    few, many = units(12, 0), units(13, 0)
    assert len(trait_of("grade", list(range(12)), few).values) == 12
    assert trait_of("age", list(range(13)), many).values == ()
    assert trait_of("ill", [True, False] * 6, few).values == ("False", "True")


def test_rare_values_are_taken_together_and_what_never_varies_is_left_out():
    who = units(30, 30)
    trait = trait_of("site", [f"s{i % 30}" for i in range(60)], who)
    assert len(trait.values) == 21
    assert trait.values[-1] == OTHERS
    rows = [{"same": 1, "size": 2.5, "sex": "FM"[i % 2], "split": "x"} for i in range(60)]
    assert [found.name for found in traits_of(rows, who)] == ["sex"]


def test_that_a_number_is_not_recorded_is_a_trait_of_its_own():
    rows = [{"age": None if i < 5 else 20.5 + i} for i in range(60)]
    found = traits_of(rows, units(30, 30))
    assert [trait.name for trait in found] == ["age", "age recorded"]
    assert found[1].columns[:, found[1].values.index("no")].sum() == 5


def test_total_variation_and_standardised_difference_have_their_closed_forms():
    who = units(40, 60)
    sex = ["F"] * 30 + ["M"] * 10 + ["F"] * 15 + ["M"] * 45
    ages = np.concatenate([rng().normal(60, 10, 40), rng().normal(50, 8, 60)])
    traits = [trait_of("sex", sex, who), trait_of("age", ages.tolist(), who)]
    shares, sizes = differences(traits, who, rng())
    assert shares.distance == pytest.approx(0.75 - 0.25)
    spread = math.sqrt((ages[:40].var(ddof=1) + ages[40:].var(ddof=1)) / 2)
    assert sizes.distance == pytest.approx((ages[:40].mean() - ages[40:].mean()) / spread)
    assert shares.p == sizes.p == 1 / 1000
    assert shares.p_holm == sizes.p_holm == 2 / 1000
    assert 0 < shares.chance < 0.3


def test_numbers_that_never_vary_within_a_split_still_differ_between_them():
    who = units(15, 15)
    (found,) = differences([trait_of("height", [6.0] * 15 + [5.0] * 15, who)], who, rng())
    assert found.distance == pytest.approx(2)
    assert found.p == 1 / 1000


def test_a_number_known_in_one_split_only_has_no_distance_and_no_evidence():
    who = units(15, 15)
    trait = trait_of("age", [30.0 + i for i in range(15)] + [None] * 15, who)
    (found,) = differences([trait], who, rng())
    assert math.isnan(found.distance)
    assert found.p == 1
    assert as_json(found, who)["distance"] is None
    assert as_json(found, who)["train"] is None


def test_the_p_value_is_that_of_all_deals_of_the_patients():
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.3])
    who = units(3, 4)
    (found,) = differences([trait_of("size", values.tolist(), who)], who, rng())

    def gap(chosen):
        rest = np.delete(values, chosen)
        return abs(values[list(chosen)].mean() - rest.mean())

    every = [gap(chosen) for chosen in itertools.combinations(range(7), 3)]
    exact = np.mean([g >= gap((0, 1, 2)) - 1e-9 for g in every])
    assert found.p == pytest.approx(exact, abs=0.05)


def test_cases_of_one_patient_do_not_count_as_patients():
    """Ten scans each: by case the sexes differ clearly, by patient not at all."""
    who = units(6, 6, per_patient=10)
    sex = [s for s in "FFFFMM" for _ in range(10)] + [s for s in "FFMMMM" for _ in range(10)]
    (found,) = differences([trait_of("sex", sex, who)], who, rng())
    assert found.p > 0.3


def test_p_values_are_uniform_where_the_splits_are_alike():
    generator, p_values = rng(), []
    for _ in range(150):
        who = units(25, 40, per_patient=2)
        patients = generator.normal(size=65)
        numbers = np.repeat(patients, 2) + 0.1 * generator.normal(size=130)
        (found,) = differences([trait_of("x", numbers.tolist(), who)], who, generator)
        p_values.append(found.p)
    assert ks_1samp(p_values, uniform.cdf).pvalue > 0.01


def test_dealt_sums_keep_the_size_and_begin_with_what_is():
    columns = np.arange(20.0).reshape(10, 2)
    in_test = np.arange(10) < 4
    sums = dealt_sums(np.concatenate([columns, np.ones((10, 1))], axis=1), in_test, rng())
    assert sums.shape == (1000, 3)
    assert sums[0].tolist() == [*columns[:4].sum(axis=0), 4]
    assert (sums[:, 2] == 4).all()


def test_a_tie_counts_as_reached_whatever_the_last_bits():
    assert p_value(np.array([0.3, 0.1 + 0.2, 0.1, 0.2])) == 0.5
    assert p_value(np.array([1.0, 0.0, 0.0, 0.0])) == 0.25


def test_holm_is_that_of_statsmodels():
    p_values = rng().uniform(0, 0.2, 9).tolist()
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected.tolist(), abs=1e-12)
    assert holm([]) == []


def test_values_of_few_patients_are_not_counted_out():
    who = units(40, 60)
    sites = ["a"] * 25 + ["b"] * 12 + ["c"] * 3 + ["a"] * 45 + ["b"] * 8 + ["d"] * 7
    (found,) = differences([trait_of("site", sites, who)], who, rng())
    shown = as_json(found, who)["values"]
    assert [value["value"] for value in shown] == ["a", "b", OTHERS]
    assert shown[0] == {"value": "a", "test": 0.625, "test_patients": 25, "train": 0.75,
                        "train_patients": 45}  # fmt: skip
    assert shown[1]["train"] is shown[1]["train_patients"] is None
    assert shown[2]["test_patients"] is shown[2]["train_patients"] is None
    ages = trait_of("age", [30.5 + i for i in range(100)], units(9, 91))
    (found,) = differences([ages], units(9, 91), rng())
    assert as_json(found, units(9, 91))["test"] is None
    assert as_json(found, units(9, 91))["train"]["patients"] == 91


def test_cramers_v_is_scipys():
    table = rng().integers(1, 30, (4, 3))
    assert cramers_v(table.astype(float)) == pytest.approx(association(table, "cramer"), abs=1e-12)
    assert contingency.expected_freq(table).shape == (4, 3)


def test_an_attribute_that_goes_with_the_label_is_found_and_one_that_does_not_is_not():
    who = units(60, 0)
    label = ["ill"] * 30 + ["well"] * 30
    site = ["north"] * 25 + ["south"] * 30 + ["north"] * 5
    age = [40.0 + i for i in range(60)]
    sex = list("FM" * 30)
    traits = [trait_of("site", site, who), trait_of("age", age, who), trait_of("sex", sex, who)]
    found = confounding(traits, [trait_of("class", label, who)], rng())
    table = np.array([[25, 5], [5, 25]])
    assert found[0].v == pytest.approx(association(table, "cramer"))
    assert found[1].v == pytest.approx(1)
    assert found[0].p == found[1].p == 1 / 1000
    assert found[2].v == 0
    assert found[2].p_holm == 1
    assert found[0].patients == 60


def test_patients_without_the_attribute_are_left_out_and_constant_pairs_too():
    who = units(30, 0)
    site = ["a"] * 10 + ["b"] * 10 + [None] * 10
    label = ["x"] * 20 + ["y"] * 10
    assert confounding([trait_of("site", site, who)], [trait_of("class", label, who)], rng()) == ()
    mixed = ["x", "y"] * 15
    (found,) = confounding([trait_of("site", site, who)], [trait_of("class", mixed, who)], rng())
    assert found.patients == 20
    assert found.v == 0


def test_ridge_logistic_regression_is_that_of_scikit_learn():
    generator = rng()
    rows = generator.normal(size=(80, 4))
    targets = (rows[:, :1] + generator.normal(size=(80, 3)) > 0).astype(float)
    weights = logistic(np.concatenate([rows, np.ones((80, 1))], axis=1), targets)
    for column in range(3):
        fitted = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(rows, targets[:, column])
        assert weights[:-1, column] == pytest.approx(fitted.coef_[0], abs=1e-5)
        assert weights[-1, column] == pytest.approx(fitted.intercept_[0], abs=1e-5)


def test_logistic_regression_ends_where_the_classes_are_apart():
    rows = np.concatenate([np.r_[np.full(20, -50.0), np.full(20, 50.0)][:, None], np.ones((40, 1))],
                          axis=1)  # fmt: skip
    weights = logistic(rows, np.r_[np.zeros(20), np.ones(20)][:, None])
    assert np.isfinite(weights).all()
    assert weights[0, 0] > 0


def test_the_area_under_the_curve_is_that_of_scikit_learn_with_ties():
    generator = rng()
    scores = generator.integers(0, 5, 60).astype(float)
    positive = generator.random(60) < 0.3
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_shifted_features_are_told_apart_and_equal_ones_are_not():
    who = units(40, 60)
    generator = rng()
    columns = generator.normal(size=(100, 3))
    same = [trait_of(f"f{i}", columns[:, i].tolist(), who) for i in range(3)]
    found = separation(same, who, rng())
    assert found.p > 0.05
    assert found.patients == 100
    columns[:40, 1] += 2
    moved = [trait_of(f"f{i}", columns[:, i].tolist(), who) for i in range(3)]
    found = separation(moved, who, rng())
    assert found.p == 1 / 500
    assert 0.85 < found.auc < 0.97
    assert 0.5 < found.chance < 0.65


def test_with_few_patients_or_no_feature_nothing_is_asked():
    who = units(19, 60)
    trait = trait_of("f", [i + 0.5 for i in range(79)], who)
    assert separation([trait], who, rng()) is None
    assert separation([], units(40, 40), rng()) is None


def test_a_patient_in_both_splits_is_never_judged_by_their_own_image():
    """Each patient's image is unmistakable, and tells nothing of the split."""
    who = Units(np.arange(80), np.arange(80) < 40, np.tile(np.arange(40), 2))
    own = np.tile(rng().normal(size=(40, 12)), (2, 1))
    traits = [trait_of(f"f{i}", own[:, i].tolist(), who) for i in range(12)]
    assert separation(traits, who, rng()).auc <= 0.5


def image_case(image, target=0):
    return Case("c", "p", torch.as_tensor(image).float(), torch.tensor(target))


def test_features_say_what_they_are_called():
    generator = rng()
    smooth = torch.linspace(0, 1, 64).expand(64, 64)[None]
    noisy = smooth + 0.1 * torch.from_numpy(generator.normal(size=(1, 64, 64)))
    plain, grainy = (
        dict(zip(FEATURES, features_of(image_case(image)), strict=True))
        for image in (smooth, noisy)
    )
    assert plain["mean intensity"] == pytest.approx(0.5, abs=1e-6)
    assert plain["contrast"] == pytest.approx(smooth.std(correction=0).item(), abs=1e-6)
    assert plain["noise"] == pytest.approx(0, abs=1e-6)
    assert grainy["noise"] == pytest.approx(0.1, rel=0.05)
    assert grainy["sharpness"] > 3 * plain["sharpness"]
    assert plain["share at the brightest value"] == pytest.approx(1 / 64)
    assert plain["height"] == plain["width"] == pytest.approx(math.log(64))
    assert plain["colour"] == 0
    red = torch.stack([smooth[0] + 1, smooth[0], smooth[0]])
    assert features_of(image_case(red))[-1] == pytest.approx(1)
    assert len(features_of(image_case(red))) == len(FEATURES)


def test_noise_is_measured_through_a_ramp_and_the_spectrum_of_noise_is_flat():
    generator = rng()
    ramp = np.add.outer(np.arange(200.0), 3 * np.arange(180.0))
    assert noise_of(ramp + generator.normal(0, 2, ramp.shape)) == pytest.approx(2, rel=0.03)
    assert noise_of(np.ones((2, 9))) == 0
    white = generator.normal(size=(256, 256))
    assert spectrum_slope(white) == pytest.approx(0, abs=0.1)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))
    frequency[0, 0] = 1
    brown = np.fft.irfft2(np.fft.rfft2(white) / frequency)
    assert spectrum_slope(brown) == pytest.approx(-2, abs=0.15)
    assert spectrum_slope(np.ones((64, 64))) == 0


def test_images_of_one_value_or_of_a_few_pixels_have_finite_features():
    for image in (torch.zeros(1, 64, 64), torch.rand(1, 2, 2), torch.rand(2, 3, 1, 5)):
        assert np.isfinite(features_of(image_case(image))).all()


def test_the_truth_of_every_task_has_names():
    def told(kind, classes, target):
        case = Case("c", "p", torch.rand(1, 4, 4), torch.as_tensor(target))
        return truth_of(case, Task(kind, classes))

    assert told("classification", ("a", "b"), 1) == {"class": "b"}
    assert told("multilabel", ("a", "b"), [1.0, 0.0]) == {"a": True, "b": False}
    assert told("regression", ("ml",), [math.nan]) == {"ml": None}
    assert told("regression", ("ml",), [3.5]) == {"ml": 3.5}
    mask = torch.zeros(4, 4, dtype=torch.int64)
    mask[:2] = 2
    sizes = told("segmentation", ("background", "rv", "lv"), mask)
    assert sizes == {"size of rv": 0, "size of lv": 0.5}
    assert told("reconstruction", (), torch.rand(1, 4, 4)) == {}
