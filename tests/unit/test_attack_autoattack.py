"""AutoAttack's composition, and that each search sees only what the earlier ones left."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.apgd_targeted import ApgdTargeted
from robustbench_med.attacks.autoattack import Autoattack, composition, in_turn
from robustbench_med.attacks.cw import Cw
from robustbench_med.attacks.fab import Fab
from robustbench_med.attacks.fgsm import Fgsm
from robustbench_med.attacks.margins import CrossEntropy, Dlr, Margin
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.square import Square
from robustbench_med.cases import Batch, Case, Cohort, Task
from robustbench_med.components import build
from robustbench_med.engine.evaluate import evaluate
from robustbench_med.errors import InputError, PartialWarning, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.probes import attacked
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

UNIT = (0.0, 1.0)
TEN = Task("classification", tuple("abcdefghij"))
PAIR = Task("classification", ("healthy", "ill"))
FLAGS = Task("multilabel", ("x", "y", "z"))
QUICK = (Apgd(steps=20), ApgdTargeted(steps=20), Fab(steps=20), Square(queries=30))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def rng_of(batch):
    return CaseRng(3, "chain", batch.case_ids)


def linear(task, cases=10, shape=(1, 4, 4)):
    """A linear model in double precision, and cases that it gets right."""
    outputs = len(task.classes)
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs)).double()
    nn.init.normal_(network[1].weight)
    model = TorchModel(network, task, UNIT)
    image = torch.rand(cases, *shape, dtype=torch.float64)
    with torch.no_grad():
        output = model(image)
    truth = output.argmax(dim=1) if task.kind == "classification" else (output > 0).long()
    return model, Batch(tuple(f"c{i}" for i in range(cases)), image, truth)


def margins(model, batch, image):
    with torch.no_grad():
        return Margin()(model(image, batch.context), batch, model.task)


def test_the_standard_version_has_the_published_parts_and_budgets():
    apgd, targeted, fab, square = composition("standard", TEN, "linf")
    assert (apgd.steps, apgd.restarts, apgd.objective) == (100, 1, CrossEntropy())
    assert (targeted.steps, targeted.targets, targeted.restarts) == (100, 9, 1)
    assert (fab.steps, fab.targets, fab.restarts) == (100, 9, 1)
    assert (square.queries, square.restarts, square.p_init) == (5000, 1, 0.8)


def test_under_l1_the_standard_version_has_five_restarts_and_five_targets_of_apgd():
    apgd, targeted, fab, square = composition("standard", TEN, "l1")
    assert (apgd.restarts, targeted.targets, square.queries) == (5, 5, 5000)
    assert (fab.steps, fab.targets) == (100, 9)


def test_the_plus_version_adds_dlr_and_restarts():
    ce, dlr, fab, square, targeted, again = composition("plus", TEN, "l2")
    assert (ce.restarts, ce.objective) == (5, CrossEntropy())
    assert (dlr.restarts, dlr.objective) == (5, Dlr())
    assert (fab.restarts, square.queries, targeted.targets, again) == (5, 5000, 9, Fab())


def test_the_version_for_random_models_takes_means_of_twenty_answers():
    (mean,) = composition("rand", TEN, "linf")
    assert mean.samples == 20
    assert [search.objective for search in mean.inner.attacks] == [CrossEntropy(), Dlr()]


@pytest.mark.parametrize("task", [PAIR, FLAGS])
def test_where_dlr_is_not_defined_the_margin_takes_its_place(task):
    assert composition("plus", task, "linf")[1].objective == Margin()


@dataclass
class Breaks:
    """A search that gets some cases wrong, by turning the image of two classes around."""

    cases: tuple[str, ...]
    seen: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, model, batch, ball, rng):
        assert rng.case_ids == batch.case_ids
        assert batch.context["number"].tolist() == [int(case[1:]) for case in batch.case_ids]
        self.seen.append(batch.case_ids)
        hit = torch.tensor([case in self.cases for case in batch.case_ids])
        return torch.where(hit[:, None], 1 - batch.image, batch.image + 0.01)


def signs(values, truth):
    """Cases `c0`, `c1`, ... of one voxel; the answer is 1 where it is above a half."""
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        network.bias.copy_(torch.tensor([0.5, -0.5]))
    ids = tuple(f"c{i}" for i in range(len(values)))
    context = {"number": torch.arange(len(values))}
    batch = Batch(ids, torch.tensor(values).view(-1, 1), torch.tensor(truth), context)
    return TorchModel(network, PAIR, UNIT), batch


def test_each_search_sees_only_what_no_earlier_one_has_broken():
    model, batch = signs([0.1, 0.9, 0.2, 0.8, 0.3], [0, 1, 1, 1, 0])  # c2 is wrong already
    chain = [Breaks(("c0",)), Breaks(("c3", "c4")), Breaks(("c1",)), Breaks(())]
    found = in_turn(chain, model, batch, Ball("linf", 1.0, UNIT), rng_of(batch))
    assert [search.seen for search in chain] == [
        [("c0", "c1", "c3", "c4")],
        [("c1", "c3", "c4")],
        [("c1",)],
        [],
    ]
    torch.testing.assert_close(found.flatten(), torch.tensor([0.9, 0.1, 0.2, 0.2, 0.7]))


def test_a_search_that_leaves_the_ball_breaks_nothing_by_it():
    model, batch = signs([0.1, 0.9], [0, 1])
    chain = [Breaks(("c0", "c1")), Breaks(())]
    found = in_turn(chain, model, batch, Ball("linf", 0.2, UNIT), rng_of(batch))
    assert chain[1].seen == [("c0", "c1")]
    torch.testing.assert_close(found.flatten(), torch.tensor([0.3, 0.7]))


def test_a_case_that_nothing_breaks_gets_the_image_of_the_highest_loss():
    model, batch = signs([0.1], [0])

    def moved(by):
        return lambda model, batch, ball, rng: batch.image + by

    found = in_turn([moved(0.1), moved(0.3), moved(-0.1)], model, batch,
                    Ball("linf", 0.5, UNIT), rng_of(batch))  # fmt: skip
    assert found.item() == pytest.approx(0.4)


@pytest.mark.parametrize("task", [PAIR, Task("classification", tuple("abc")), FLAGS],
                         ids=["2 classes", "3 classes", "flags"])  # fmt: skip
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_chain_breaks_a_linear_model_where_the_closed_form_says(task, norm):
    model, batch = linear(task)
    weight, bias = model.network[1].weight.detach(), model.network[1].bias.detach()
    rows, sizes = [], []
    for image, truth in zip(batch.image.flatten(start_dim=1), batch.target, strict=True):
        if task.kind == "multilabel":
            sides = 1 - 2 * truth.double()
            slopes, offsets = sides[:, None] * weight, sides * bias
        else:
            others = torch.arange(len(weight)) != truth
            slopes, offsets = weight[others] - weight[truth], bias[others] - bias[truth]
        rows.append(slopes @ image + offsets)
        sizes.append(
            torch.linalg.vector_norm(slopes, {"linf": 1, "l2": 2, "l1": math.inf}[norm], dim=1)
        )
    needed = (-torch.stack(rows) / torch.stack(sizes)).amin(dim=1).sort().values
    eps = (needed[4] + needed[5]).item() / 2
    ball = Ball(norm, eps)  # without bounds the distance to each plane is known
    found = in_turn(QUICK, model, batch, ball, rng_of(batch))
    assert (margins(model, batch, found) > 0).sum() == 5
    assert (per_case_norm(found - batch.image, norm) <= eps + 1e-9).all()


def test_what_happens_to_a_case_depends_on_no_other():
    model, batch = linear(Task("classification", tuple("abcde")), cases=6)
    ball = Ball("linf", 0.08, UNIT)
    together = in_turn(QUICK, model, batch, ball, rng_of(batch))
    alone = [in_turn(QUICK, model, batch[i], ball, rng_of(batch[i])) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)
    assert 0 < (margins(model, batch, together) > 0).sum() < 6


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("task", [PAIR, Task("classification", tuple("abc")), TEN, FLAGS],
                         ids=["2 classes", "3 classes", "10 classes", "flags"])  # fmt: skip
def test_a_ball_in_which_everything_must_break_breaks_everything(version, task):
    model, batch = linear(task, cases=4)
    found = Autoattack(version)(model, batch, Ball("linf", 1.0, UNIT), rng_of(batch))
    assert (margins(model, batch, found) > 0).all()


@dataclass(frozen=True)
class Opaque:
    """A model that answers and gives no gradients."""

    inside: TorchModel

    @property
    def task(self):
        return self.inside.task

    @property
    def bounds(self):
        return self.inside.bounds

    def __call__(self, image, context=None):
        return self.inside(image.detach(), context).detach()


def test_a_model_without_gradients_gets_square_and_is_told_so():
    model, batch = linear(TEN)
    ball = Ball("linf", 1.0, UNIT)
    said = "autoattack: only square was run: Opaque gives no gradients"
    with pytest.warns(PartialWarning, match=said) as told:
        found = Autoattack()(Opaque(model), batch, ball, rng_of(batch))
    assert [warning.message.case_ids for warning in told] == [batch.case_ids]
    assert (margins(model, batch, found) > 0).all()
    alone = in_turn((Square(),), model, batch, ball, rng_of(batch))
    assert torch.equal(found, alone)


def test_the_version_for_random_models_refuses_one_without_gradients_and_names_square():
    model, batch = linear(TEN, cases=2)
    with pytest.raises(UnsupportedError, match=r"gives no gradients.*\(square"):
        Autoattack("rand")(Opaque(model), batch, Ball("linf", 1.0, UNIT), rng_of(batch))


@pytest.mark.parametrize("search", [Apgd(), ApgdTargeted(), Fab(), Pgd(), Fgsm(), Cw()],
                         ids=lambda search: type(search).__name__)  # fmt: skip
def test_a_single_search_by_gradient_refuses_it_and_names_square(search):
    model, batch = linear(TEN, cases=2)
    with pytest.raises(UnsupportedError, match=r"gives no gradients.*\(square"):
        search(Opaque(model), batch, Ball("linf", 1.0, UNIT), rng_of(batch))


def test_the_engine_records_the_value_and_what_was_left_out():
    model, batch = linear(PAIR, cases=3)
    cases = [Case(name, name, batch.image[row], batch.target[row])
             for row, name in enumerate(batch.case_ids)]  # fmt: skip
    metrics = {"correct": build("metrics", "correct")}
    probe = attacked("autoattack", Autoattack(), Ball("linf", 1.0, UNIT), metrics)
    told = []
    records = list(evaluate(Opaque(model), Cohort("x", PAIR, UNIT, cases), [probe],
                            on_failure=told.append))  # fmt: skip
    assert [record.value for record in records if record.metric == "correct"] == [0, 0, 0]
    assert [(one.case_id, one.error) for one in told] == [
        (name, "UnsupportedError") for name in batch.case_ids
    ]
    assert all("only square was run" in one.message for one in told)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="version must be one of standard, plus, rand, got 'fast'"):
        Autoattack("fast")
    model = TorchModel(nn.Flatten(), Task("regression", ("v",)), UNIT)
    batch = Batch(("a",), torch.zeros(1, 1), torch.zeros(1, 1))
    with pytest.raises(UnsupportedError, match="autoattack: needs a task of classification"):
        Autoattack()(model, batch, Ball("linf", 0.1), rng_of(batch))


def test_a_case_that_is_broken_only_between_grey_levels_goes_on_to_the_next_search():
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():  # wrong above 0.45
        network[1].weight[:] = torch.tensor([[0.0], [1.0]])
        network[1].bias[:] = torch.tensor([0.45, 0.0])
    model = TorchModel(network, PAIR, UNIT)
    batch = Batch(("c0",), torch.full((1, 1, 1), 0.4, dtype=torch.float64), torch.zeros(1).long())
    ball = Ball("linf", 0.1, UNIT, levels=10)

    def barely(model, batch, ball, rng):
        return batch.image + 0.06

    def fully(model, batch, ball, rng):
        return batch.image + 0.1

    found = in_turn((barely, fully), model, batch, ball, rng_of(batch))
    assert found.item() == pytest.approx(0.5)
    assert in_turn((barely,), model, batch, ball, rng_of(batch)).item() == pytest.approx(0.4)
