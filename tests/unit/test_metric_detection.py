"""The probability given to the truth about a class, against probabilities known in closed form."""

import math

import pytest
import torch

from robustbench_med import Case, Cohort, Task, TorchModel, clean, evaluate
from robustbench_med.errors import InputError
from robustbench_med.metrics.detection import SMALLEST, Detection


def softmax(logits, label):
    exact = [math.exp(v) for v in logits]
    return exact[label] / sum(exact)


def test_a_classification_s_probability_is_the_softmax_of_the_class():
    rows = [[0.3, -1.2, 2.0], [1.0, 1.0, 1.0], [-4.0, 3.0, 0.5]]
    target = torch.tensor([2, 0, 1])
    for label in range(3):
        found = Detection(label=label)(torch.tensor(rows, dtype=torch.float64), target)
        p = [softmax(row, label) for row in rows]
        there = [index == label for index in target.tolist()]
        expected = [q if here else 1 - q for q, here in zip(p, there, strict=True)]
        assert found["value"].tolist() == pytest.approx(expected, rel=1e-12)
        assert found["true"].tolist() == there
        assert found["value"].dtype == found["true"].dtype == torch.float64


def test_a_flag_s_probability_is_the_sigmoid_of_its_own_output():
    output = torch.tensor([[9.0, 0.5], [9.0, -2.0], [9.0, 1.0]])
    flags = torch.tensor([[0, 1], [0, 0], [0, 0]])
    found = Detection(label=1)(output, flags)
    expected = [1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(1.0))]
    assert found["value"].tolist() == pytest.approx(expected, rel=1e-12)
    assert found["true"].tolist() == [1, 0, 0]


def test_a_flag_that_is_not_known_gives_no_value_and_no_truth():
    flags = torch.tensor([[1.0, math.nan], [math.nan, 0.0]])
    found = Detection(label=1)(torch.zeros(2, 2), flags)
    assert found["value"].isnan().tolist() == found["true"].isnan().tolist() == [True, False]


def test_small_probabilities_do_not_drown_in_those_near_one():
    output = torch.tensor([[0.0, 30.0], [30.0, 0.0], [0.0, 20.0]])
    found = Detection()(output, torch.tensor([0, 1, 0]))["value"]
    expected = [math.exp(-30), math.exp(-30), math.exp(-20)]
    assert found.tolist() == pytest.approx(expected, rel=1e-8)


def test_outputs_in_single_precision_are_scored_in_double():
    output = torch.tensor([[0.1, 7.3, -0.4], [1.7, 0.2, 0.3]])
    found = Detection()(output, torch.tensor([1, 1]))["value"]
    expected = [softmax(row, 1) for row in output.double().tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_no_probability_is_rounded_to_0_or_1_and_its_complement_is_exact():
    output = torch.tensor([[0.0, 800.0], [0.0, -800.0], [0.0, 40.0], [0.0, 36.0]])
    wrong = Detection()(output, torch.tensor([0, 1, 0, 0]))["value"]
    right = Detection()(output, torch.tensor([1, 0, 1, 1]))["value"]
    assert ((wrong > 0) & (right < 1)).all()
    assert torch.equal(1 - wrong[:3], right[:3])
    assert wrong[:3].tolist() == [SMALLEST] * 3
    assert wrong[3] > SMALLEST
    assert torch.logit(right).isfinite().all()


@pytest.mark.parametrize("threshold", [0, 1, 0.0, 1.0, -0.1, math.nan, True, "0.5"])
def test_a_threshold_is_a_probability_strictly_between_0_and_1(threshold):
    with pytest.raises(InputError, match="threshold must be a probability above 0 and below 1"):
        Detection(threshold=threshold)
    assert Detection(threshold=0.5).threshold == 0.5


@pytest.mark.parametrize(
    ("output", "target"),
    [((4, 3, 5), (4, 5)), ((4, 3), (4, 2)), ((4,), (4,)), ((4, 3), (5,)), ((2, 4, 3), (2,))],
)
def test_other_shapes_are_refused(output, target):
    with pytest.raises(InputError, match="detection: needs a classification"):
        Detection()(torch.zeros(output), torch.zeros(target))


def test_what_cannot_be_a_class_or_a_flag_is_refused():
    with pytest.raises(InputError, match="label must be a class index"):
        Detection(label=-1)
    with pytest.raises(InputError, match="label 3, but the output has 3 classes"):
        Detection(label=3)(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(InputError, match="needs two classes, got 1"):
        Detection(label=0)(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(InputError, match="flags must be 0 or 1"):
        Detection(label=0)(torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [0.3, 1.0]]))


class Shifted(torch.nn.Module):
    def forward(self, image):
        return image.flatten(1)[:, :2]


def test_a_run_records_the_probability_and_the_truth():
    cases = [
        Case(name, name, torch.tensor([0.0, 1.0]).view(1, 2), torch.tensor(target))
        for name, target in (("a", 1), ("b", 0))
    ]
    cohort = Cohort("x", Task("classification", ("well", "ill")), (0, 1), cases)
    model = TorchModel(Shifted(), cohort.task, cohort.bounds)
    records = evaluate(model, cohort, [clean({"ill": Detection()})])
    values = {(record.case_id, record.metric): record.value for record in records}
    p = 1 / (1 + math.exp(-1))
    assert values["a", "ill"] == pytest.approx(p)
    assert values["b", "ill"] == pytest.approx(1 - p)
    assert (values["a", "ill.true"], values["b", "ill.true"]) == (1, 0)
