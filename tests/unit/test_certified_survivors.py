"""Searches around a proof: the exact robust accuracy, and no search where one is proved."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.autoattack import in_turn
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch, Case, Cohort, Task
from robustbench_med.certify.crown import Crown
from robustbench_med.certify.ibp import Ibp
from robustbench_med.components import build
from robustbench_med.engine.certified_survivors import CertifiedSurvivors
from robustbench_med.engine.evaluate import evaluate
from robustbench_med.errors import InputError, IntegrityError, UnknownNameError, UnsupportedError
from robustbench_med.metrics.correct import Correct
from robustbench_med.model import TorchModel
from robustbench_med.probes import attacked
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

THREE = Task("classification", ("a", "b", "c"))
UNIT = (0.0, 1.0)
BALL = Ball("linf", 0.06, UNIT)
CHEAP, DEAR = Pgd(steps=5), (Apgd(steps=30, restarts=3), Square(queries=100))


@pytest.fixture(scope="module")
def mlp():
    """Two intensities, five hidden neurons, three classes; and 40 cases, some on the edge."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = nn.Sequential(nn.Flatten(), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3))
        nn.init.normal_(network[1].weight, std=2.0)
        nn.init.normal_(network[3].weight, std=2.0)
        image = torch.rand(40, 1, 2)
        with torch.no_grad():  # so that every class has its place
            network[3].bias -= network(image).mean(dim=0)
    model = TorchModel(network.double(), THREE, UNIT)
    image = image.double()
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    target[:4] = (target[:4] + 1) % 3  # wrong without an attack
    return model, Batch(tuple(f"case-{i}" for i in range(40)), image, target)


def breaks_somewhere(model, image, target, ball):
    """Exactly: the highest other logit less the true one, over every linear piece of the box."""
    first, last = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in (model.network[1], model.network[3])
    )
    centre = image.flatten().numpy()
    box = list(zip(np.clip(centre - ball.eps, 0, 1), np.clip(centre + ball.eps, 0, 1), strict=True))
    for pattern in itertools.product((0.0, 1.0), repeat=len(first[1])):
        on = np.array(pattern)
        side = (1 - 2 * on)[:, None] * first[0], (2 * on - 1) * first[1]
        for other in {0, 1, 2} - {target}:
            row = (last[0][other] - last[0][target]) * on
            found = linprog(-(row @ first[0]), A_ub=side[0], b_ub=side[1], bounds=box)
            constant = row @ first[1] + last[1][other] - last[1][target]
            if found.status == 0 and constant - found.fun > 0:
                return True
    return False


def streams(batch):
    return CaseRng(5, "survivors", batch.case_ids)


@torch.no_grad()
def wrong(model, batch, image):
    return model(image).argmax(dim=1) != batch.target


@dataclass(frozen=True)
class Spy:
    """An attack that notes which cases it was put to."""

    inner: object
    seen: list = field(default_factory=list)

    def __call__(self, model, batch, ball, rng):
        self.seen.extend(batch.case_ids)
        return self.inner(model, batch, ball, rng)


@dataclass(frozen=True)
class Liar:
    """Certifies everything."""

    def __call__(self, model, batch, ball, rng):
        return {"certified": torch.ones(len(batch))}


@pytest.mark.parametrize("certifier", [Ibp(), Crown()], ids=["ibp", "crown"])
def test_the_robust_accuracy_is_the_exact_one_and_that_of_the_plain_sequence(mlp, certifier):
    model, batch = mlp
    spies = tuple(Spy(attack) for attack in DEAR)
    around = CertifiedSurvivors(certifier, (CHEAP,), spies)
    found = around(model, batch, BALL, streams(batch))
    plain = in_turn((CHEAP, *DEAR), model, batch, BALL, streams(batch))
    broken = wrong(model, batch, found)
    exact = torch.tensor([
        breaks_somewhere(model, image, target, BALL)
        for image, target in zip(batch.image, batch.target.tolist(), strict=True)
    ])  # fmt: skip
    assert torch.equal(broken, exact)
    assert torch.equal(broken, wrong(model, batch, plain))
    assert 8 < int(broken.sum()) < 32
    proved = certifier(model, batch, BALL, streams(batch))["certified"] >= 1
    assert (proved & ~broken).sum() >= 5
    tail = {case for spy in spies for case in spy.seen}
    assert not tail & {batch.case_ids[i] for i in proved.nonzero().flatten().tolist()}
    # Whatever is not proved was searched just as it would have been.
    assert torch.equal(found[~proved], plain[~proved])
    assert torch.equal(found[:4], batch.image[:4])


def test_checked_certified_cases_are_searched_too_and_nothing_changes(mlp):
    model, batch = mlp
    seen = {}
    for share in (0.0, 0.4, 1.0):
        spy = Spy(DEAR[0])
        around = CertifiedSurvivors(Crown(), (CHEAP,), (spy,), check=share)
        image = around(model, batch, BALL, streams(batch))
        seen[share] = (set(spy.seen), wrong(model, batch, image))
    assert seen[0.0][0] < seen[0.4][0] < seen[1.0][0]
    assert torch.equal(seen[0.0][1], seen[0.4][1])
    assert torch.equal(seen[0.0][1], seen[1.0][1])


def test_a_proof_that_a_search_contradicts_ends_the_run_if_it_is_checked(mlp):
    model, batch = mlp
    cheap = Pgd(steps=1, step_size=0.01, random_start=False)
    said = CertifiedSurvivors(Liar(), (cheap,), DEAR[:1], check=1.0)
    with pytest.raises(IntegrityError, match=r"case 'case-\d+': Liar\(\) proved that nothing in"):
        said(model, batch, BALL, streams(batch))
    cohort = Cohort("two", THREE, UNIT, [
        Case(name, name, image, target)
        for name, image, target in zip(batch.case_ids, batch.image, batch.target, strict=True)
    ])  # fmt: skip
    with pytest.raises(IntegrityError):  # the engine takes it for no failure of a case
        list(evaluate(model, cohort, [attacked("x", said, BALL, {"correct": Correct()})]))
    believed = CertifiedSurvivors(Liar(), (cheap,), DEAR[:1])(model, batch, BALL, streams(batch))
    assert wrong(model, batch, believed).sum() < 20


def test_a_case_is_treated_the_same_alone(mlp):
    model, batch = mlp
    around = CertifiedSurvivors(Crown(), (CHEAP,), DEAR[:1], check=0.5)
    together = around(model, batch, BALL, streams(batch))
    for row in range(12):
        alone = around(model, batch[row], BALL, streams(batch[row]))
        torch.testing.assert_close(alone[0], together[row], atol=1e-9, rtol=0)
    assert torch.equal(around(model, batch, Ball("linf", 0.0, UNIT), streams(batch)), batch.image)


def test_where_nothing_can_be_certified_it_is_the_plain_sequence(mlp):
    model, batch = mlp
    ball = Ball("l1", 0.08, UNIT)  # certifiers here do not take l1
    found = CertifiedSurvivors(Crown(), (CHEAP,), DEAR)(model, batch, ball, streams(batch))
    assert torch.equal(found, in_turn((CHEAP, *DEAR), model, batch, ball, streams(batch)))


def test_a_plan_can_name_it_and_its_digest_covers_what_is_inside():
    use = "robustbench_med.engine.certified_survivors:CertifiedSurvivors"
    table = {"certifier": "ibp", "first": [{"use": "pgd", "steps": 3}], "tail": ["apgd"]}
    made = build("attacks", use, **table)
    assert made == CertifiedSurvivors(Ibp(), (Pgd(steps=3),), (Apgd(),))
    metrics = {"correct": Correct()}
    probe = attacked("x", made, BALL, metrics)
    other = attacked("x", build("attacks", use, **table | {"certifier": "crown"}), BALL, metrics)
    assert probe.spec != other.spec


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"certifier": "ibp", "first": "pgd"}, InputError, "first must be a list of attacks"),
        ({"certifier": "ibp", "tail": ()}, InputError, "tail must be a list of attacks"),
        ({"certifier": "ibp", "check": 1.5}, InputError, "check must be from 0 to 1, got 1.5"),
        ({"certifier": "ibp", "check": True}, InputError, "check must be from 0 to 1, got True"),
        ({"certifier": "ipb"}, UnknownNameError, "did you mean 'ibp'"),
        ({"certifier": "ibp", "first": ["pdg"]}, UnknownNameError, "did you mean 'pgd'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        CertifiedSurvivors(**settings)


def test_a_task_without_a_decision_is_refused(mlp):
    _, batch = mlp
    model = TorchModel(nn.Identity(), Task("reconstruction"), UNIT)
    with pytest.raises(UnsupportedError, match="got reconstruction"):
        CertifiedSurvivors(Ibp())(model, batch, BALL, streams(batch))
