"""Attacks on segmentations: objectives by their formulas, searches on per-voxel linear models."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.attacks.boundary import Boundary, signed_distances
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.pixelwise import BalancedCe, Js, MaskedCe, harm
from robustbench_med.attacks.segpgd import Segpgd
from robustbench_med.attacks.structures import Erase, Hallucinate, SoftDice, Volume
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.metrics.dice import Dice
from robustbench_med.metrics.volume_error import VolumeError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TASK = Task("segmentation", ("background", "lv", "myo"))
TWO = Task("segmentation", ("background", "lv"))
SPACING = torch.tensor([[8.0, 1.5, 2.0], [10.0, 1.0, 1.0]])
EVERY = [
    MaskedCe(), BalancedCe(), Js(), SoftDice(), SoftDice("lv"), Boundary("lv"), Erase("lv"),
    Hallucinate(1), Volume("lv"), Volume("lv", -1, "ml"),
]  # fmt: skip
every_objective = pytest.mark.parametrize("objective", EVERY, ids=repr)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batch_of(size=(5, 6), cases=2, context=None):
    context = {"spacing": SPACING} if context is None else context
    target = torch.randint(0, 3, (cases, *size))
    ids = tuple(f"case-{i}" for i in range(cases))
    return Batch(ids, torch.rand(cases, 1, *size).double(), target, context)


def logits_of(batch, scale=1.0):
    return scale * torch.randn(len(batch), 3, *batch.target.shape[1:], dtype=torch.float64)


@every_objective
@pytest.mark.parametrize("size", [(5, 6), (3, 4, 3), (2, 2, 3, 4)])
def test_the_slope_is_that_of_finite_differences(objective, size):
    batch = batch_of(size)
    output = logits_of(batch).requires_grad_()
    assert objective(output, batch, TASK).shape == (2,)
    (slope,) = torch.autograd.grad(objective(output, batch, TASK).sum(), output)
    with torch.no_grad():
        for _ in range(4):
            way = torch.randn_like(output)
            up, down = (objective(output + h * way, batch, TASK) for h in (1e-6, -1e-6))
            along = (slope * way).flatten(start_dim=1).sum(dim=1)
            torch.testing.assert_close((up - down) / 2e-6, along, rtol=1e-5, atol=1e-7)


@every_objective
def test_a_case_counts_the_same_alone_and_in_a_batch(objective):
    batch = batch_of()
    output = logits_of(batch)
    alone = [objective(output[i : i + 1], batch[i], TASK) for i in range(2)]
    torch.testing.assert_close(objective(output, batch, TASK), torch.cat(alone))


@every_objective
def test_another_task_is_refused_in_one_line(objective):
    batch = Batch(("a",), torch.rand(1, 1, 4), torch.tensor([0]), {})
    with pytest.raises(UnsupportedError, match="segmentation, got classification; use") as refused:
        objective(torch.rand(1, 3), batch, Task("classification", ("lv", "b", "c")))
    assert "\n" not in str(refused.value)


def test_masked_ce_climbs_right_voxels_as_cross_entropy_does_and_no_others():
    batch = batch_of()
    output = logits_of(batch).requires_grad_()
    (slope,) = torch.autograd.grad(MaskedCe()(output, batch, TASK).sum(), output)
    (whole,) = torch.autograd.grad(TASK.loss(output, batch.target).sum(), output)
    right = (output.argmax(dim=1) == batch.target)[:, None].expand_as(slope)
    assert 0 < right.float().mean() < 1
    torch.testing.assert_close(slope, whole.where(right, 0))


def test_masked_ce_only_rises_when_a_voxel_turns():
    target = torch.zeros(2, 4, 4, dtype=torch.long)
    batch = Batch(("a", "b"), torch.zeros(2, 1, 4, 4), target, {})
    output = torch.rand(2, 3, 4, 4).double()
    output[:, 0] += 1.0  # every voxel is right
    before = MaskedCe()(output, batch, TASK)
    output[:, :, 0, 0] = torch.tensor([0.0, 0.01, -9.0]).double()
    assert (MaskedCe()(output, batch, TASK) > before).all()
    output[:, 1] += 50.0  # every voxel is wrong
    torch.testing.assert_close(
        MaskedCe()(output, batch, TASK), torch.full((2,), math.log(3)).double()
    )


def test_balanced_ce_is_the_mean_over_the_classes_of_the_truth():
    batch = batch_of()
    output = logits_of(batch)
    batch.target[1][batch.target[1] == 2] = 0
    right = output.argmax(dim=1) == batch.target
    cost = F.cross_entropy(output, batch.target, reduction="none").where(right, math.log(3))
    for case in range(2):
        present = batch.target[case].unique()
        means = [cost[case][batch.target[case] == label].mean() for label in present]
        found = BalancedCe()(output, batch, TASK)[case]
        torch.testing.assert_close(found, torch.stack(means).mean())


def test_js_is_the_divergence_from_its_definition():
    batch = batch_of()
    output = logits_of(batch, 3.0)
    share = output.softmax(dim=1)
    truth = F.one_hot(batch.target, 3).movedim(-1, 1).double()
    middle = (share + truth) / 2
    first = torch.special.xlogy(share, share / middle).sum(dim=1)
    second = torch.special.xlogy(truth, truth / middle).sum(dim=1)
    torch.testing.assert_close(
        Js()(output, batch, TASK), ((first + second) / 2).flatten(start_dim=1).mean(dim=1)
    )
    assert Js()(1e3 * output, batch, TASK).isfinite().all()


def test_with_probabilities_of_0_and_1_soft_dice_is_dice_and_volume_the_metric():
    batch = batch_of((40, 40))
    output = 1e3 * F.one_hot(logits_of(batch).argmax(dim=1), 3).movedim(-1, 1).double()
    dice = Dice(1)(output, batch.target)["value"]
    torch.testing.assert_close(SoftDice("lv")(output, batch, TASK), 1 - dice, rtol=0, atol=2e-3)
    mean = torch.stack([SoftDice(i)(output, batch, TASK) for i in range(3)]).mean(dim=0)
    torch.testing.assert_close(SoftDice()(output, batch, TASK), mean)
    for unit in ("voxels", "ml"):
        metric = VolumeError(1, unit)(output, batch.target, batch.context)
        for sign in (1, -1):
            found = Volume("lv", sign, unit)(output, batch, TASK)
            torch.testing.assert_close(found, sign * metric)


@pytest.mark.parametrize("spacing", [None, SPACING])
@pytest.mark.parametrize("size", [(5, 6), (3, 4, 4)])
def test_the_distance_is_that_to_the_nearest_voxel_of_the_other_side(size, spacing):
    batch = batch_of(size, context={} if spacing is None else {"spacing": spacing})
    for case in range(2):
        inside = batch.target[case] == 1
        extent = torch.ones(len(size)) if spacing is None else spacing[case, 3 - len(size) :]
        places = torch.cartesian_prod(*map(torch.arange, size)) * extent
        distances = torch.cdist(places.double(), places.double())
        other = inside.flatten()[:, None] != inside.flatten()[None, :]
        nearest = distances.where(other, torch.inf).amin(dim=1).view(size)
        signed = torch.where(inside, -nearest, nearest).float()
        torch.testing.assert_close(signed_distances(batch, 1)[case], signed)


def test_phases_of_a_patient_are_kept_apart_and_absent_structures_have_a_distance():
    batch = batch_of((2, 2, 3, 4))
    batch.target[0] = 0
    batch.target[1, 0] = 1
    distances = signed_distances(batch, 1)
    assert (distances[0] == 1).all()
    assert (distances[1, 0] == -1).all()
    alone = Batch(("x",), batch.image[1:, :, 0], batch.target[1:, 1], {"spacing": SPACING[1:]})
    torch.testing.assert_close(distances[1, 1], signed_distances(alone, 1)[0])


def test_erase_and_hallucinate_are_0_once_done_and_climb_only_what_is_not():
    batch = batch_of()
    output = logits_of(batch).requires_grad_()
    predicted = output.argmax(dim=1) == 1
    for objective, region in (
        (Erase("lv"), (batch.target == 1) & predicted),
        (Hallucinate("lv"), (batch.target != 1) & ~predicted),
    ):
        value = objective(output, batch, TASK)
        assert (value < 0).all()
        (slope,) = torch.autograd.grad(value.sum(), output)
        assert torch.equal((slope != 0).any(dim=1), region)
    gone = output.detach().clone()
    gone[:, 1] = -99
    assert (Erase("lv")(gone, batch, TASK) == 0).all()
    gone[:, 1] = 99
    assert (Hallucinate("lv")(gone, batch, TASK) == 0).all()


def test_a_truth_without_the_structure_has_nothing_to_erase():
    batch = batch_of()
    batch.target[:] = 0
    output = logits_of(batch).requires_grad_()
    value = Erase("lv")(output, batch, TASK)
    assert (value == 0).all()
    assert (torch.autograd.grad(value.sum(), output)[0] == 0).all()


@pytest.mark.parametrize(
    ("make", "told"),
    [(lambda: Volume("lv", 2), "sign must be 1"), (lambda: Volume("lv", unit="l"), "voxels or ml"),
     (lambda: Erase(-1), "erase: label"), (lambda: Hallucinate(True), "hallucinate: label"),
     (lambda: Boundary(""), "boundary: label"), (lambda: SoftDice(1.5), "soft_dice: label"),
     (lambda: Segpgd(steps=0), "segpgd: steps"), (lambda: Segpgd(step_size=0), "step_size")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_told(make, told):
    with pytest.raises(InputError, match=told):
        make()


def test_millilitres_without_a_spacing_and_unknown_classes_are_told():
    batch = batch_of(context={})
    with pytest.raises(InputError, match=r"needs spacing \(b, 3\) in mm"):
        Volume("lv", unit="ml")(logits_of(batch), batch, TASK)
    with pytest.raises(InputError, match="did you mean 'myo'"):
        Erase("my")(logits_of(batch), batch, TASK)


class PerVoxel(nn.Module):
    """Logits of each voxel from its own channels, linear; float64."""

    def __init__(self, classes, channels=2):
        super().__init__()
        self.linear = nn.Conv2d(channels, classes, 1).double()

    def forward(self, image):
        return self.linear(image)


def linear_case(classes=2, cases=4):
    model = TorchModel(PerVoxel(classes), TWO if classes == 2 else TASK, (0.0, 1.0))
    image = torch.rand(cases, 2, 8, 7).double()
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    target[0, :2] = 1 - target[0, :2].clamp(max=1)  # some voxels are wrong from the start
    return model, Batch(tuple("abcd")[:cases], image, target, {"spacing": torch.ones(cases, 3)})


def corner_errors(model, batch, ball):
    """Wrong voxels at the worst corners: a maximum of linear functions is highest at one."""
    worst = torch.zeros_like(batch.target, dtype=torch.bool)
    for signs in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 2):
        image = (batch.image + ball.eps * signs.view(1, 2, 1, 1)).clamp(*ball.bounds)
        with torch.no_grad():
            worst |= model(image).argmax(dim=1) != batch.target
    return worst.flatten(start_dim=1).sum(dim=1)


def errors_of(model, batch, image):
    with torch.no_grad():
        return (model(image).argmax(dim=1) != batch.target).flatten(start_dim=1).sum(dim=1)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(
    "attack",
    [Segpgd(steps=20), Segpgd(steps=20, random_start=False), Pgd(steps=20, objective="task"),
     *(Pgd(steps=20, objective=goal) for goal in (MaskedCe(), BalancedCe(), Js(), SoftDice()))],
    ids=repr,
)  # fmt: skip
def test_on_a_linear_model_of_two_classes_every_voxel_that_can_turn_does(attack, eps):
    model, batch = linear_case()
    ball = Ball("linf", eps, (0.0, 1.0))
    found = attack(model, batch, ball, CaseRng(0, "x", batch.case_ids))
    found = ball.project(found, batch.image)
    most = corner_errors(model, batch, ball)
    assert (most > errors_of(model, batch, batch.image)).any()
    assert torch.equal(errors_of(model, batch, found), most)


@pytest.mark.parametrize("objective", [Erase("lv"), Hallucinate("lv")], ids=repr)
def test_a_structure_goes_or_comes_exactly_where_it_can(objective):
    model, batch = linear_case()
    ball = Ball("linf", 0.15, (0.0, 1.0))
    found = Pgd(steps=20, objective=objective)(model, batch, ball, CaseRng(0, "x", batch.case_ids))
    weight = model.network.linear.weight[1] - model.network.linear.weight[0]
    towards = -1.0 if isinstance(objective, Erase) else 1.0
    corner = (batch.image + towards * 0.15 * weight.sign()[None]).clamp(0, 1)
    region = batch.target == (1 if isinstance(objective, Erase) else 0)
    with torch.no_grad():
        reached, most = (model(i).argmax(dim=1)[region] for i in (found, corner))
        assert torch.equal(reached, most)
        assert not torch.equal(model(batch.image).argmax(dim=1)[region], most)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_volume_moves_to_the_corner_of_its_slope(sign):
    model, batch = linear_case()
    ball = Ball("linf", 0.1, (0.0, 1.0))
    goal = Volume("lv", sign, "ml")
    found = Pgd(steps=20, random_start=False, objective=goal)(
        model, batch, ball, CaseRng(0, "x", batch.case_ids)
    )
    weight = model.network.linear.weight[1] - model.network.linear.weight[0]
    corner = (batch.image + sign * 0.1 * weight.sign()[None]).clamp(0, 1)
    torch.testing.assert_close(
        goal(model(found), batch, model.task), goal(model(corner), batch, model.task)
    )


def test_under_l2_segpgd_turns_more_voxels_than_pgd_and_no_more_than_the_cheapest_allow():
    model, batch = linear_case()
    ball = Ball("l2", 0.25)
    rng = CaseRng(0, "x", batch.case_ids)
    found, plain = (attack(model, batch, ball, rng) for attack in (Segpgd(), Pgd(steps=100)))
    reached, plain = (errors_of(model, batch, ball.project(i, batch.image)) for i in (found, plain))
    weight = model.network.linear.weight[1] - model.network.linear.weight[0]
    with torch.no_grad():
        logits = model(batch.image)
    margin = logits.gather(1, batch.target[:, None]) - logits.gather(1, 1 - batch.target[:, None])
    cost = (margin.clamp(min=0) / weight.norm()).square().flatten(start_dim=1).sort(dim=1).values
    most = (cost.cumsum(dim=1) < ball.eps**2).sum(dim=1)
    assert (reached <= most).all()
    assert (reached >= plain).all()
    assert reached.sum() > plain.sum()


def test_equal_counts_are_ranked_by_cross_entropy_and_never_above_one_more_voxel():
    target = torch.zeros(1, 2, 2, dtype=torch.long)
    mild, bad = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    mild[:, 0], bad[:, 0] = 1.0, 1.0
    mild[0, 1, 0, 0], bad[0, 1, 0, 0] = 1.1, 1e6
    assert harm(mild, target) < harm(bad, target) < 2
    mild[0, 1, 0, 1] = 1.1
    assert harm(mild, target) >= 2


def test_segpgd_refuses_what_is_no_segmentation_and_l1():
    model, batch = linear_case()
    rng = CaseRng(0, "x", batch.case_ids)
    with pytest.raises(UnsupportedError, match="linf and l2"):
        Segpgd()(model, batch, Ball("l1", 1.0), rng)
    other = TorchModel(model.network, Task("reconstruction"), (0.0, 1.0))
    with pytest.raises(UnsupportedError, match="got reconstruction"):
        Segpgd()(other, batch, Ball("linf", 1.0), rng)
