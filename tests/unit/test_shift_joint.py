"""Joint shifts: one after the other, each with its own draws, and searched over both at once."""

import pickle

import pytest
import torch

from robustbench_med.attacks.physics import Physics
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build, describe
from robustbench_med.errors import CaseError, InputError, UnknownNameError
from robustbench_med.searching import Parametrised, searched
from robustbench_med.streams import CaseRng

STRONG = {"use": "gamma", "log_gamma": [0.4, 0.8, 1.2, 1.6, 2.0]}


def batch_of(cases=3, side=12):
    stream = torch.Generator().manual_seed(6)
    image = torch.rand(cases, 1, side, side, generator=stream)
    target = (image[:, 0] > 0.5).long()
    ids = tuple(f"c{i}" for i in range(cases))
    return Batch(ids, image, target, {"spacing": torch.full((cases, 3), 1.5)})


def rng_of(batch, name="joint"):
    return CaseRng(5, name, batch.case_ids)


def test_the_second_shift_is_of_what_the_first_returned_both_at_one_severity():
    batch, rng = batch_of(), rng_of(batch_of())
    blur, resolution = build("shifts", "blur"), build("shifts", "resolution")
    found = build("shifts", "joint", first="blur", second={"use": "resolution"})(batch, 2.0, rng)
    wanted = resolution(blur(batch, 2.0, rng), 2.0, rng)  # neither draws
    assert torch.equal(found.image, wanted.image)
    other = build("shifts", "joint", first=resolution, second=blur)(batch, 2.0, rng)
    assert not torch.equal(found.image, other.image)


def test_parts_that_draw_draw_apart_even_of_one_kind():
    """Two gammas of random directions: both brighter, both darker, or each undone."""
    batch = batch_of(cases=64, side=4)
    shift = build("shifts", "joint", first="gamma", second="gamma")
    moved = shift(batch, 2.0, rng_of(batch)).image
    peak = batch.image.amax(dim=(1, 2, 3), keepdim=True)
    outcomes = torch.stack([peak * (batch.image / peak) ** torch.tensor(a).exp()
                            for a in (-0.6, 0.0, 0.6)])  # fmt: skip
    off = (outcomes - moved).abs().amax(dim=(2, 3, 4))
    assert off.amin(dim=0).max() < 1e-5
    counts = off.argmin(dim=0).bincount(minlength=3)
    assert (counts - torch.tensor([16, 32, 16])).abs().max() < 14  # 3.5 standard deviations
    noisy = build("shifts", "joint", first="rician", second="rician")(batch, 1.0, rng_of(batch))
    once = build("shifts", "rician")(batch, 1.0, rng_of(batch))
    assert not torch.equal(noisy.image, once.image)


def test_parameters_of_equal_names_are_told_apart():
    batch = batch_of()
    shift = build("shifts", "joint", first="gamma", second=STRONG)
    ranges = shift.ranges(batch, 2.0)
    assert list(ranges) == ["first_log_gamma", "second_log_gamma"]
    assert ranges["first_log_gamma"] == pytest.approx((-0.3, 0.3))
    assert ranges["second_log_gamma"] == pytest.approx((-0.8, 0.8))
    first, second = torch.tensor([0.1, 0.3, -0.2]), torch.tensor([0.7, -0.3, -0.1])
    moved = shift.apply(batch, {"first_log_gamma": first, "second_log_gamma": second})
    # A power of a power: the logarithms of the exponents add up.
    wanted = build("shifts", "gamma").apply(batch, {"log_gamma": first + second})
    torch.testing.assert_close(moved.image, wanted.image)


def test_three_shifts_are_a_joint_shift_of_a_joint_shift_and_labels_go_along():
    batch = batch_of()
    placement = {"use": "placement", "unit": "pixels"}
    shift = build(
        "shifts", "joint", first="gamma",
        second={"use": "joint", "first": placement, "second": "blur"},
    )  # fmt: skip
    names = list(shift.ranges(batch, 1.0))
    assert names[0] == "first_log_gamma"
    assert names[-1] == "second_second_sigma"
    assert "second_first_down_pixels" in names
    values = {name: torch.zeros(3) for name in names} | {"second_first_down_pixels": torch.ones(3)}
    moved = shift.apply(batch, values)
    assert torch.equal(moved.target[:, 1:], batch.target[:, :-1])
    torch.testing.assert_close(moved.image[:, :, 1:], batch.image[:, :, :-1])


class Picky:
    """A value that is high for a bright image with a brighter left half only."""

    task, bounds = Task("regression", ("value",)), (0.0, 2.0)

    def __call__(self, image, context=None):
        side = image[..., :6].mean(dim=(1, 2, 3)) - image[..., 6:].mean(dim=(1, 2, 3))
        tone = image.mean(dim=(1, 2, 3))
        return torch.exp(-(((tone - 0.62) / 0.1) ** 2) - ((side - 0.15) / 0.1) ** 2).unsqueeze(1)


def test_the_worst_pair_of_an_enumeration_is_found_and_no_part_alone_is_as_bad():
    batch = batch_of()
    batch = Batch(batch.case_ids, batch.image, torch.zeros(3, 1), batch.context)
    metric = {"error": lambda output, target: (output - target).square().mean(dim=1)}
    tilt = {"use": "bias_field", "order": 1, "coefficient": [0.2, 0.4, 0.6, 0.8, 1.0]}
    shift = build("shifts", "joint", first=STRONG, second=tilt)
    probe = searched("pair", Physics(96), shift, 2.0, metric)
    values = probe.measure(Picky(), batch, rng_of(batch))
    assert probe.name == "pair_worst@2"
    tones, tilts = torch.linspace(-0.8, 0.8, 25), torch.linspace(-0.4, 0.4, 13)
    worst, alone = torch.zeros(3), torch.zeros(3)
    for tone in tones:
        for power in tilts:
            each = {
                "first_log_gamma": tone.expand(3), "second_power_0_1": power.expand(3),
                "second_power_1_0": torch.zeros(3),
            }  # fmt: skip
            moved = shift.apply(batch, each).image.clamp(0, 2)
            error = metric["error"](Picky()(moved), batch.target)
            worst = worst.maximum(error)
            if abs(tone) < 1e-6 or abs(power) < 1e-6:
                alone = alone.maximum(error)
    assert (worst > alone + 0.01).all()  # else a pair would be nothing to look for
    assert (values["error"] >= worst - 2e-3).all()
    assert {*values} == {"error", *(f"found.{name}" for name in shift.ranges(batch, 2.0))}


def test_a_pair_with_a_part_that_only_draws_is_drawn_and_not_searched():
    batch = batch_of()
    shift = build("shifts", "joint", first="gamma", second="rician")
    assert not isinstance(shift, Parametrised)
    assert shift(batch, 0.0, rng_of(batch)) is batch
    assert not torch.equal(shift(batch, 1.0, rng_of(batch)).image, batch.image)
    with pytest.raises(InputError, match=r"'joint': .*a joint shift has them where both parts"):
        searched("joint", Physics(), shift, 1.0, {})


@pytest.mark.parametrize("second", ["gamma", "rician"])
def test_a_pair_is_described_by_its_parts_and_pickles(second):
    shift = build("shifts", "joint", first="blur", second=second)
    described = describe(shift)
    assert described["first"] == describe(build("shifts", "blur"))
    assert described["second"] == describe(build("shifts", second))
    assert pickle.loads(pickle.dumps(shift)) == shift  # noqa: S301


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"first": 3}, InputError, "joint: first: expected a name, a table or one of the shifts"),
        ({"second": {"budget": 3}}, InputError, r"joint: second: expected \{ use = NAME"),
        ({"second": {"use": "gamma", "direktion": 1}}, InputError, "did you mean 'direction'"),
        ({"second": "gama"}, UnknownNameError, "did you mean 'gamma'"),
        ({"third": "gamma"}, InputError, "joint has no setting 'third'"),
    ],
)
def test_parts_that_are_no_shifts_are_refused(settings, error, message):
    with pytest.raises(error, match=message) as refused:
        build("shifts", "joint", **settings)
    assert "\n" not in str(refused.value)


def test_a_part_that_does_not_fit_the_case_says_so_itself():
    batch = batch_of()
    shift = build("shifts", "joint", first="gamma", second="acceleration")
    with pytest.raises(CaseError, match="acceleration: acts on k-space"):
        shift(batch, 1.0, rng_of(batch))
