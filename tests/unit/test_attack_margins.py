"""Objectives of a decision, against values worked out by hand and what their papers promise."""

import math

import pytest
import torch

from robustbench_med.attacks.margins import CrossEntropy, Dlr, DlrTargeted, Margin, easiest
from robustbench_med.attacks.success import broken, select, where_open
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build
from robustbench_med.errors import InputError, UnsupportedError

FOUR = Task("classification", tuple("abcd"))
FLAGS = Task("multilabel", ("x", "y"))
LOGITS = torch.tensor([[4.0, 1.0, 2.0, -1.0], [0.0, 3.0, 3.5, 1.0]])
TRUTH = torch.tensor([0, 1])


def batch_of(target):
    image = torch.zeros(len(target), 1, 1)
    return Batch(tuple(f"c{i}" for i in range(len(target))), image, target)


def raised(objective, logits=LOGITS, target=TRUTH, task=FOUR):
    return objective(logits, batch_of(target), task)


def test_ce_is_minus_the_log_of_the_true_probability():
    expected = [
        math.log(sum(math.exp(z) for z in row)) - row[y]
        for row, y in zip(LOGITS.tolist(), TRUTH.tolist(), strict=True)
    ]
    torch.testing.assert_close(raised(CrossEntropy()), torch.tensor(expected))


def test_ce_of_flags_is_the_sum_of_their_logistic_losses():
    logits, flags = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 1]])
    expected = torch.tensor([math.log1p(math.exp(-2)) + math.log1p(math.exp(1))])
    torch.testing.assert_close(raised(CrossEntropy(), logits, flags, FLAGS), expected)


def test_the_margin_is_the_best_other_logit_less_the_true_one():
    assert raised(Margin()).tolist() == [-2.0, 0.5]


def test_the_margin_of_flags_is_the_furthest_any_lies_on_the_wrong_side():
    logits = torch.tensor([[2.0, -1.0], [2.0, -1.0], [2.0, -1.0]])
    flags = torch.tensor([[1, 0], [1, 1], [0, 0]])
    assert raised(Margin(), logits, flags, FLAGS).tolist() == [-1.0, 1.0, 2.0]


def test_dlr_is_the_margin_over_first_less_third():
    torch.testing.assert_close(raised(Dlr()), torch.tensor([-2 / 3, 0.5 / 2.5]))


def test_targeted_dlr_divides_by_first_less_mean_of_third_and_fourth():
    torch.testing.assert_close(raised(DlrTargeted()), torch.tensor([-2 / 4, 0.5 / 3.0]))
    torch.testing.assert_close(raised(DlrTargeted(rank=3)), torch.tensor([-5 / 4, -3 / 3.0]))


@pytest.mark.parametrize("objective", [Dlr(), DlrTargeted(), DlrTargeted(2)])
def test_ratios_stay_the_same_under_a_shift_and_a_scale_of_the_logits(objective):
    torch.testing.assert_close(raised(objective, 1e4 * LOGITS + 7), raised(objective))


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(), Dlr(), DlrTargeted()])
def test_every_objective_gives_finite_slopes_also_where_logits_tie(objective):
    for logits in (LOGITS.clone(), torch.zeros(2, 4)):
        logits.requires_grad_()
        (slope,) = torch.autograd.grad(raised(objective, logits).sum(), logits)
        assert slope.isfinite().all()


@pytest.mark.parametrize(("classes", "margins"), [(2, [-3.0, -3.0]), (3, [-2.0, 0.5])])
def test_the_margin_and_ce_take_two_and_three_classes(classes, margins):
    task = Task("classification", tuple("abc"[:classes]))
    assert raised(Margin(), LOGITS[:, :classes], TRUTH, task).tolist() == margins
    assert raised(CrossEntropy(), LOGITS[:, :classes], TRUTH, task).shape == (2,)


@pytest.mark.parametrize(
    ("objective", "task", "told"),
    [
        (Dlr(), Task("classification", ("a", "b")), '3 classes or more.*with 2; use .*"margin"'),
        (DlrTargeted(), Task("classification", tuple("abc")), "4 classes or more.*with 3"),
        (Dlr(), FLAGS, "needs a classification into 3.*got multilabel"),
        (Dlr(), Task("regression", ("v",)), "classification or multilabel, got regression"),
        (CrossEntropy(), Task("segmentation", ("a", "b")), 'got segmentation; use apgd or pgd'),
        (Margin(), Task("reconstruction"), 'got reconstruction; use apgd or pgd'),
    ],
)  # fmt: skip
def test_a_task_that_does_not_fit_is_refused_with_what_does(objective, task, told):
    with pytest.raises(UnsupportedError, match=told):
        raised(objective, task=task)


@pytest.mark.parametrize("rank", [0, True, 1.5])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(InputError, match="rank must be at least 1"):
        DlrTargeted(rank)


def test_a_rank_beyond_the_classes_is_refused():
    with pytest.raises(InputError, match="rank must be 1 to 3, got 4"):
        raised(DlrTargeted(4))


def test_the_easiest_wrong_answers_come_first_and_the_truth_never():
    assert easiest(LOGITS, TRUTH, FOUR).tolist() == [[2, 1, 3], [2, 3, 0]]
    logits, flags = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]])
    assert easiest(logits, flags, FLAGS).tolist() == [[1, 0]]


@pytest.mark.parametrize("name", ["ce", "margin", "dlr", "dlr_targeted"])
def test_every_objective_has_its_name(name):
    assert raised(build("objectives", name)).shape == (2,)


def test_a_case_is_broken_where_the_metric_correct_is_0():
    correct = build("metrics", "correct")
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=stream)
    truth = torch.randint(4, (50,), generator=stream)
    assert torch.equal(broken(FOUR, logits, truth), correct(logits, truth) == 0)
    flags = torch.randint(2, (50, 2), generator=stream)
    logits = torch.cat([logits[:, :2], torch.zeros(1, 2)])
    flags = torch.cat([flags, torch.tensor([[0, 1]])])
    assert torch.equal(broken(FLAGS, logits, flags), correct(logits, flags) == 0)


def test_an_answer_that_is_not_finite_breaks_nothing():
    logits = torch.tensor([[math.nan, 0, 1, 2], [math.inf, 0, 0, 0], [0, 1, 0, 0]])
    assert broken(FOUR, logits, torch.tensor([3, 1, 0])).tolist() == [False, False, True]


@pytest.mark.parametrize("kind", ["segmentation", "regression", "reconstruction"])
def test_a_task_without_one_decision_has_no_broken_cases(kind):
    assert broken(Task(kind, ("a", "b")), LOGITS, TRUTH) is None


def test_selected_cases_keep_their_own_context():
    batch = Batch(tuple("abc"), torch.arange(3.0).view(3, 1), torch.arange(3),
                  {"n": torch.arange(3) * 10})  # fmt: skip
    rows = where_open(torch.tensor([False, True, False]))
    kept = select(batch, rows)
    assert kept.case_ids == ("a", "c")
    assert kept.image.flatten().tolist() == [0, 2]
    assert kept.target.tolist() == [0, 2]
    assert kept.context["n"].tolist() == [0, 20]
