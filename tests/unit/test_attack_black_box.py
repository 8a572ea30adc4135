"""Square and random search: linear models, the published schedule, torchattacks, no gradients."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.random_search import RandomSearch
from robustbench_med.attacks.square import Square
from robustbench_med.attacks.square_moves import Moves
from robustbench_med.attacks.squares import Places, local_index, pyramid_pair, share_at, sides_of
from robustbench_med.attacks.torchattacks_bridge import _attack_class
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.projections import corner_l1
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("attacks_fixture.py"))))
run, still_right, trained = MADE.run, MADE.still_right, MADE.trained
FREE = (-float("inf"), float("inf"))
SHAPES = [(5, 6, 7), (2, 9), (2, 3, 4, 5), (12,)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=["image", "series", "volume", "vector"])


def linear(shape, cases=3, dtype=torch.float32):
    """A regression far below its target, so that the loss falls with a linear function."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 1)).to(dtype)
        image = torch.rand(cases, *shape, dtype=dtype)
    model = TorchModel(network, Task("regression", ("x",)), FREE)
    target = torch.full((cases, 1), -1e3, dtype=dtype)
    return model, Batch(tuple("abcdef"[:cases]), image, target)


def gain(model, batch, found):
    with torch.no_grad():
        return (model(found) - model(batch.image)).squeeze(1)


def most(model, batch, ball):
    """Largest gain of the linear function in the ball, without bounds."""
    dual = {"linf": 1, "l2": 2, "l1": math.inf}[ball.norm]
    return ball.eps * torch.linalg.vector_norm(model.network[1].weight.detach().flatten(), dual)


@every_shape
@pytest.mark.parametrize(("norm", "share"), [("linf", 0.45), ("l2", 0.2), ("l1", 0.15)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_square_climbs_a_linear_function_towards_the_closed_form(shape, norm, share, dtype):
    model, batch = linear(shape, dtype=dtype)
    ball = Ball(norm, 0.5)
    found = run(Square(queries=600), model, batch, ball)
    assert found.dtype == dtype
    assert (per_case_norm(found - batch.image, norm) <= 0.5 * (1 + 1e-5)).all()
    reached = gain(model, batch, found) / most(model, batch, ball)
    assert (reached > share).all()
    assert (reached <= 1 + 1e-5).all()


def test_with_enough_queries_square_finds_the_worst_corner_within_active_bounds():
    model, batch = linear((2, 2, 3))
    ball = Ball("linf", 0.4, (0.0, 1.0))
    up = model.network[1].weight.detach().view(1, 2, 2, 3) > 0
    corner = torch.where(up, (batch.image + 0.4).clamp(max=1), (batch.image - 0.4).clamp(min=0))
    found = run(Square(queries=700), model, batch, ball)
    torch.testing.assert_close(found, corner)


@every_shape
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_squares_keep_to_a_sparse_support_and_move_it(shape, norm):
    model, batch = linear(shape)
    mask = torch.zeros(3, *shape)
    mask.view(3, -1)[:, ::5] = 1
    batch = Batch(batch.case_ids, batch.image, batch.target, {"mask": mask})
    found = run(Square(queries=60), model, batch, Ball(norm, 0.5, support="mask"))
    assert torch.equal(found[mask == 0], batch.image[mask == 0])
    assert (gain(model, batch, found) > 0).all()


def test_the_share_of_voxels_follows_the_published_schedule():
    halvings = {0: 0, 10: 0, 11: 1, 50: 1, 51: 2, 201: 3, 501: 4, 1001: 5, 2001: 6, 4001: 7,
                6001: 8, 8001: 9, 20000: 9}  # fmt: skip
    assert {query: math.log2(0.8 / share_at(query, 0.8)) for query in halvings} == halvings
    assert sides_of(0.25, (8, 8)) == (4, 4)
    assert sides_of(0.8, (2, 32)) == (2, 7)
    assert sides_of(1 / 8, (8, 8, 8)) == (4, 4, 4)
    assert sides_of(1e-9, (8,)) == (1,)


def test_squares_lie_in_the_image_uniformly_and_where_they_are_said_to():
    draws = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    starts = Places((6, 5), None).starts(draws, (3, 2))
    counts = torch.bincount(starts[:, 0] * 4 + starts[:, 1], minlength=16)
    assert starts.amax(dim=0).tolist() == [3, 3]
    assert counts.float().std() < 3 * (4000 / 16) ** 0.5 / 2
    inside, places = local_index(starts[:1], (3, 2), (6, 5))
    y, x = starts[0].tolist()
    expected = torch.zeros(6, 5, dtype=torch.bool)
    expected[y : y + 3, x : x + 2] = True
    assert torch.equal(inside[0, 0], expected)
    assert places[0].flatten()[y : y + 3].tolist() == [0, 1, 2]


def test_a_square_on_a_support_holds_some_of_it():
    support = torch.zeros(200, 9, 8, dtype=torch.bool)
    support[:, 7, 1] = support[:, 0, 6] = True
    draws = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    places = Places((9, 8), support)
    inside, _ = local_index(places.starts(draws, (2, 3)), (2, 3), (9, 8))
    assert (inside[:, 0] & support).any(dim=(1, 2)).all()


@pytest.mark.parametrize("sides", [(5, 5), (4, 6), (3,), (3, 5, 4)])
def test_heap_and_pit_mirror_each_other_and_have_length_1(sides):
    for axis in range(len(sides)):
        pair = pyramid_pair(sides, axis, 2.0)
        half = sides[axis] // 2
        assert pair.shape == sides
        assert torch.linalg.vector_norm(pair).item() == pytest.approx(1)
        flatter = pyramid_pair(sides, axis, 1.0)
        assert flatter.abs().sum().item() == pytest.approx(1)
        torch.testing.assert_close(flatter / flatter.abs().max(), pair / pair.abs().max())
        assert (pair.narrow(axis, 0, half) > 0).all()
        assert (pair.narrow(axis, half, sides[axis] - half) < 0).all()


@pytest.mark.parametrize("eps", [0.5, 3.0])
def test_under_l1_square_comes_near_the_best_image_of_ball_and_bounds(eps):
    model, batch = linear((1, 12, 12))
    ball = Ball("l1", eps, (0.0, 1.0))
    weight = model.network[1].weight.detach()
    radius = torch.full((len(batch), 1), eps)
    best = corner_l1(weight.expand(len(batch), -1), radius, *ball.reach(batch.image))
    found = run(Square(queries=800), model, batch, ball)
    assert (gain(model, batch, found) > 0.65 * (best * weight).sum(dim=1)).all()


def test_under_l1_square_breaks_most_of_what_a_gradient_breaks():
    model, batch = trained()
    ball = Ball("l1", 8.0, (0.0, 1.0))
    assert still_right(model, batch, run(Apgd(steps=30), model, batch, ball)) <= 3
    assert still_right(model, batch, run(Square(queries=800), model, batch, ball)) <= 10


def test_a_trial_under_l2_stays_on_the_sphere_and_empties_one_of_its_squares():
    batch = Batch(("a", "b"), torch.zeros(2, 3, 12, 12), torch.zeros(2))
    moves = Moves(batch, Ball("l2", 2.0))
    rng = CaseRng(0, "x", batch.case_ids)
    image = moves.first(rng)
    torch.testing.assert_close(per_case_norm(image, "l2").flatten(), torch.full((2,), 2.0))
    tried = moves.tried(image, 0.05, rng.uniform(moves.draws))
    torch.testing.assert_close(per_case_norm(tried, "l2").flatten(), torch.full((2,), 2.0))
    changed = (tried - image).abs().amax(dim=1) > 1e-6
    assert ((changed.sum(dim=(1, 2)) > 8) & (changed.sum(dim=(1, 2)) <= 18)).all()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.5)])
def test_on_a_trained_network_square_is_as_strong_as_torchattacks_and_beats_chance(norm, eps):
    model, batch = trained()
    ball = Ball(norm, eps, (0.0, 1.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peer = _attack_class("Square")(
            model.network, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, n_queries=150,
            resc_schedule=False,
        )  # fmt: skip
        theirs = ball.project(peer(batch.image, batch.target).detach(), batch.image)
    for parameter in model.network.parameters():
        parameter.grad = None
    ours = ball.project(run(Square(queries=150), model, batch, ball), batch.image)
    chance = ball.project(run(RandomSearch(queries=150), model, batch, ball), batch.image)
    assert 5 < still_right(model, batch, theirs) < 55
    assert still_right(model, batch, ours) <= still_right(model, batch, theirs) + 1
    assert still_right(model, batch, ours) < still_right(model, batch, chance)


class Counted:
    """A model that PyTorch cannot look into, and that counts what it is asked."""

    def __init__(self, model):
        self.model, self.task, self.bounds, self.asked = model, model.task, model.bounds, 0

    @torch.no_grad()
    def __call__(self, image, context=None):
        self.asked += len(image)
        return self.model(image.detach())


@pytest.mark.parametrize("attack", [Square(queries=40), RandomSearch(queries=40)],
                         ids=["square", "random"])  # fmt: skip
def test_no_gradient_is_needed_and_a_broken_case_asks_no_more(attack):
    model, batch = trained()
    opaque = Counted(model)
    found = run(attack, opaque, batch, Ball("linf", 0.03, (0.0, 1.0)))
    stand = still_right(model, batch, found)
    assert 0 < stand < 60
    assert 41 * stand <= opaque.asked < 41 * 60
    opaque.asked = 0
    wrong = Batch(batch.case_ids, batch.image, (batch.target + 1) % 4)
    assert torch.equal(run(attack, opaque, wrong, Ball("linf", 0.03, (0.0, 1.0))), batch.image)
    assert opaque.asked == 60


@pytest.mark.parametrize("attack", [Square(queries=60), RandomSearch(queries=60)],
                         ids=["square", "random"])  # fmt: skip
def test_a_case_fares_the_same_alone_and_beside_cases_that_break_earlier(attack):
    model, batch = trained()
    few = Batch(batch.case_ids[:8], batch.image[:8], batch.target[:8])
    ball = Ball("linf", 0.02 if isinstance(attack, Square) else 0.06, (0.0, 1.0))
    together = run(attack, model, few, ball)
    alone = torch.cat([run(attack, model, few[i], ball) for i in range(8)])
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)
    assert 0 < still_right(model, few, together) < 8


def test_restarts_go_on_with_the_cases_that_stand():
    model, batch = trained()
    ball = Ball("linf", 0.015, (0.0, 1.0))
    one, four = (run(Square(queries=10, restarts=n), model, batch, ball) for n in (1, 4))
    assert still_right(model, batch, four) < still_right(model, batch, one)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_search_never_finds_less_with_more_queries_and_stays_in_the_ball(norm):
    model, batch = linear((2, 3, 4))
    ball = Ball(norm, 0.3, (0.0, 1.0))
    few, many = (run(RandomSearch(queries=n), model, batch, ball) for n in (5, 200))
    assert (gain(model, batch, many) >= gain(model, batch, few)).all()
    assert (gain(model, batch, many) > 0).all()
    assert (gain(model, batch, many) <= most(model, batch, ball)).all()
    assert (per_case_norm(many - batch.image, norm) <= 0.3 * (1 + 1e-5)).all()


def test_an_objective_that_does_not_fit_the_task_is_refused():
    model, batch = linear((1, 3, 3))
    with pytest.raises(UnsupportedError, match="margin"):
        run(Square(queries=2, objective="margin"), model, batch, Ball("linf", 0.1))


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (Square, {"queries": 0}, "square: queries must be a whole number, at least 1, got 0"),
        (Square, {"restarts": 1.5}, "square: restarts must be a whole number"),
        (Square, {"p_init": 0}, "square: p_init must be above 0 and at most 1, got 0"),
        (RandomSearch, {"queries": True}, "random_search: queries must be a whole number"),
        (Square, {"objective": 3}, "objective: expected a name"),
    ],
)
def test_settings_that_make_no_sense_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build(**settings)
