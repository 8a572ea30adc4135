"""Attacks before proofs: what is broken is not bounded, and what is bounded is what was left."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch, Task
from robustbench_med.certify.crown import Crown
from robustbench_med.certify.ibp import Ibp
from robustbench_med.components import build
from robustbench_med.engine.attacked_first import AttackedFirst
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

BALL = Ball("linf", 0.08, (0.0, 1.0))


@dataclass(frozen=True)
class Spy:
    inner: object
    seen: list = field(default_factory=list)

    def __call__(self, model, batch, ball, rng):
        self.seen.extend(batch.case_ids)
        return self.inner(model, batch, ball, rng)


@pytest.fixture
def asked():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
        image = torch.rand(40, 1, 2, 2)
        with torch.no_grad():  # so that every class has its place
            network[3].weight *= 3
            network[3].bias -= network(image).mean(dim=0)
    model = TorchModel(network, Task("classification", ("a", "b", "c")), (0.0, 1.0))
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    target[0] = (target[0] + 1) % 3
    return model, Batch(tuple(f"case-{i}" for i in range(40)), image, target)


def run(certifier, model, batch):
    return certifier(model, batch, BALL, CaseRng(1, "first", batch.case_ids))


def test_only_what_withstood_is_bounded_and_the_answers_are_those_of_both_alone(asked):
    model, batch = asked
    spy = Spy(Crown())
    both = run(AttackedFirst(spy, (Pgd(steps=10),)), model, batch)
    alone = run(Crown(), model, batch)
    assert torch.equal(both["certified"], alone["certified"])
    assert (both["falsified"] >= alone["falsified"]).all()
    assert torch.equal(both["certified"] + both["falsified"] + both["undecided"], torch.ones(40))
    assert 3 < both["certified"].sum() < 37
    assert both["falsified"].sum() > 2
    broken = {batch.case_ids[i] for i in both["falsified"].nonzero().flatten().tolist()}
    assert "case-0" in broken
    assert set(spy.seen) == set(batch.case_ids) - (broken - set(spy.seen))
    assert len(spy.seen) < 40
    assert {name for name, _ in both.certificates} == set(spy.seen)


def test_a_case_is_treated_the_same_alone(asked):
    model, batch = asked
    certifier = AttackedFirst(Crown(), (Pgd(steps=5),))
    together = run(certifier, model, batch)
    for row in range(0, 40, 7):
        alone = run(certifier, model, batch[row])
        for name, value in alone.items():
            assert torch.equal(value[0].nan_to_num(-9), together[name][row].nan_to_num(-9))


def test_a_plan_can_name_it_and_wrong_ones_are_refused(asked):
    use = "robustbench_med.engine.attacked_first:AttackedFirst"
    made = build("certifiers", use, certifier="ibp", attacks=[{"use": "pgd", "steps": 3}])
    assert made == AttackedFirst(Ibp(), (Pgd(steps=3),))
    with pytest.raises(InputError, match="attacks must be a list of attacks"):
        AttackedFirst("ibp", "pgd")
    with pytest.raises(InputError, match="must be a proof"):
        AttackedFirst({"use": "smoothing"})
    model, batch = asked
    other = TorchModel(model.network, Task("regression", ("a", "b", "c")), model.bounds)
    with pytest.raises(UnsupportedError, match="classification or multilabel"):
        run(AttackedFirst("ibp"), other, batch)
