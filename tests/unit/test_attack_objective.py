"""What an attack raises may be a name, a table or a function."""

from dataclasses import dataclass

import pytest
import torch

import robustbench_med as rb
from robustbench_med.attacks.fgsm import Fgsm
from robustbench_med.attacks.objective import TaskLoss, class_index, resolved
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch, Task
from robustbench_med.components import describe
from robustbench_med.errors import InputError, UnknownNameError
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TASK = Task("regression", ("low", "high"))


@dataclass(frozen=True)
class Output:
    """One of the model's outputs."""

    label: str

    def __call__(self, output, batch, task):
        return output[:, class_index(self.label, task)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 2))
    return rb.TorchModel(network.double(), TASK, bounds=(-9, 9))


@pytest.fixture
def batch():
    image = torch.rand(3, 1, 3, 3, dtype=torch.float64)
    return Batch(("a", "b", "c"), image, torch.zeros(3, 2, dtype=torch.float64))


@pytest.mark.parametrize("asked", ["task", {"use": "task"}, TaskLoss()])
def test_a_name_a_table_and_the_thing_itself_are_one(asked):
    assert resolved(asked) == TaskLoss()
    assert Pgd(objective=asked) == Pgd()


@pytest.mark.parametrize("attack", [Fgsm, lambda **more: Pgd(steps=5, step_size=0.5, **more)])
@pytest.mark.parametrize("label", [0, 1])
def test_what_is_asked_for_is_what_rises_by_the_closed_form(attack, label, model, batch):
    ball = Ball("linf", 0.1)
    found = attack(objective=Output(TASK.classes[label]))(
        model, batch, ball, CaseRng(0, "x", batch.case_ids)
    )
    weight = model.network[1].weight[label]
    risen = (model(found, {}) - model(batch.image, {}))[:, label]
    torch.testing.assert_close(risen, (0.1 * weight.abs().sum()).expand(3))


def test_the_objective_is_part_of_what_an_attack_is():
    assert describe(Pgd()) != describe(Pgd(objective=Output("low")))
    assert describe(Pgd(objective=Output("high"))) != describe(Pgd(objective=Output("low")))


@pytest.mark.parametrize("asked", [7, None, TaskLoss, {"label": "lv"}])
def test_what_is_no_objective_is_refused(asked):
    with pytest.raises(InputError, match="objective: expected"):
        resolved(asked)


def test_an_unknown_name_is_told_with_what_was_meant():
    with pytest.raises(UnknownNameError, match="did you mean 'task'"):
        Pgd(objective="tasks")


def test_settings_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="task has no setting 'label'"):
        Pgd(objective={"use": "task", "label": 1})


@pytest.mark.parametrize(
    ("label", "told"),
    [("hgh", "no class 'hgh'; did you mean 'high'"), (2, "0 to 1, got 2"), (True, "got True")],
)
def test_classes_that_the_task_has_not_are_told(label, told):
    with pytest.raises(InputError, match=told):
        class_index(label, TASK)
