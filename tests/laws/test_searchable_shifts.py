"""What a shift whose parameters can be searched must keep; the suite asks all that are declared."""

from dataclasses import replace

import pytest
import torch

from robustbench_med import components
from robustbench_med.cases import Batch
from robustbench_med.errors import InputError
from robustbench_med.searching import Parametrised
from robustbench_med.streams import CaseRng

SHIFTS = {name: components.build("shifts", name) for name in components.names("shifts")}
NAMES = [name for name, shift in SHIFTS.items() if isinstance(shift, Parametrised)]
# How many parameters have no slope: moments, places and counts.
SMOOTH = {
    "bias_field": 0, "coil_loss": 1, "coil_phase": 0, "gamma": 0, "ghosting": 2,
    "intensity_scale": 0, "joint": 0, "motion": 2, "placement": 0, "quantise": 0,
    "shifted_lines": 0, "spikes": 7, "window": 0,
}  # fmt: skip
STEPWISE = ("moment", "coil", "ghosts", "start", "spikes", "row", "column")
# Kinks and jumps lie close: between pixels, and between grey levels.
STEP = {"placement": 1e-7, "quantise": 1e-9, "window": 1e-7}
KSPACE_ONLY = {"coil_loss", "coil_phase"}
every = pytest.mark.parametrize("name", NAMES)


def batch_of(cases=3, shape=(2, 12, 10), dtype=torch.float32):
    stream = torch.Generator().manual_seed(1)
    image = torch.rand((cases, *shape), generator=stream, dtype=dtype) + 0.1
    ids = tuple(f"c{i}" for i in range(cases))
    return Batch(ids, image, torch.zeros(cases), {"spacing": torch.full((cases, 3), 1.5)})


def batch_for(name, shape=(2, 12, 10), dtype=torch.float32):
    """Images, or for a shift of nothing else k-space of two coils."""
    if name not in KSPACE_ONLY:
        return batch_of(shape=shape, dtype=dtype)
    batch = batch_of(shape=(4, *shape[1:]), dtype=dtype)
    mask = torch.ones(len(batch), 1, *shape[1:])
    return replace(batch, context={**batch.context, "mask": mask})


def parameters_of(shift, batch, severity=2.0, stream=0):
    ranges = shift.ranges(batch, severity)
    rng = CaseRng(stream, "parameters", batch.case_ids)
    drawn = rng.uniform(len(ranges)).unbind(dim=1)
    return {
        name: low + (high - low) * share
        for (name, (low, high)), share in zip(ranges.items(), drawn, strict=True)
    }


def test_the_suite_knows_the_shifts_that_can_be_searched():
    assert {*NAMES} == {*SMOOTH} | {"blur", "partial_fourier", "resolution"}


# A joint shift draws by its parts: tests/unit/test_shift_joint.py.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "joint"])
def test_what_a_shift_draws_lies_in_its_ranges_and_is_applied(name, monkeypatch):
    shift, batch, seen = SHIFTS[name], batch_for(name), []
    original = type(shift).apply

    def spy(self, batch, parameters):
        seen.append(parameters)
        return original(self, batch, parameters)

    monkeypatch.setattr(type(shift), "apply", spy)
    moved = shift(batch, 2.0, CaseRng(3, "draw", batch.case_ids))
    (drawn,) = seen
    ranges = shift.ranges(batch, 2.0)
    assert {*drawn} == {*ranges}
    for key, (low, high) in ranges.items():
        assert ((drawn[key] >= low - 1e-6) & (drawn[key] <= high + 1e-6)).all()
    assert torch.equal(original(shift, batch, drawn).image, moved.image)


@every
def test_the_ranges_grow_with_severity_and_leave_nothing_at_0(name):
    shift, batch = SHIFTS[name], batch_for(name)
    for key, (low, high) in shift.ranges(batch, 1.0).items():
        wider = shift.ranges(batch, 2.0)[key]
        assert wider[0] <= low <= high <= wider[1]
    nothing = {
        key: torch.full((3,), 0.5 * (low + high)).clamp(low, high)
        for key, (low, high) in shift.ranges(batch, 0.0).items()
    }
    torch.testing.assert_close(shift.apply(batch, nothing).image, batch.image, atol=1e-5, rtol=0)


@every
def test_there_are_no_ranges_outside_severities_0_to_5(name):
    shift, batch = SHIFTS[name], batch_for(name)
    assert shift.ranges(batch, 5.0)
    for severity in (-0.5, 5.001):
        with pytest.raises(InputError, match="severity must be from 0 to 5, got"):
            shift.ranges(batch, severity)


@every
@pytest.mark.parametrize("shape", [(1, 12, 10), (2, 3, 12, 10)])
def test_a_case_is_shifted_by_its_own_parameters_alone(name, shape):
    shift, batch = SHIFTS[name], batch_for(name, shape)
    parameters = parameters_of(shift, batch)
    together = shift.apply(batch, parameters)
    assert torch.equal(shift.apply(batch, parameters).image, together.image)  # nothing is drawn
    assert together.case_ids == batch.case_ids
    for case in range(3):
        own = {key: value[case : case + 1] for key, value in parameters.items()}
        alone = shift.apply(batch[case], own)
        torch.testing.assert_close(alone.image[0], together.image[case], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_in_the_parameters_agree_with_differences(name):
    shift, batch = SHIFTS[name], batch_for(name, dtype=torch.float64)
    names = list(shift.ranges(batch, 2.0))
    start = torch.stack([v.double() for v in parameters_of(shift, batch).values()], dim=1)
    weight = torch.randn(batch.image.shape, dtype=torch.float64)

    def score(point):
        image = shift.apply(batch, dict(zip(names, point.unbind(dim=1), strict=True))).image
        return (weight * image).flatten(1).sum(dim=1)

    point = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(score(point).sum(), point)
    step = STEP.get(name, 1e-3)
    for axis, key in enumerate(names):
        ahead = torch.zeros_like(start)
        ahead[:, axis] = step
        difference = (score(start + ahead) - score(start - ahead)) / (2 * step)
        if not key.startswith(STEPWISE):
            torch.testing.assert_close(slope[:, axis], difference, atol=2e-3, rtol=2e-2)
    assert (slope == 0).all(dim=0).sum() == SMOOTH[name]


def test_motion_of_kspace_is_searched_without_its_turns():
    shift, batch = SHIFTS["motion"], batch_of()
    mask = torch.ones(3, 1, 12, 1)
    kspace = replace(batch, context={**batch.context, "mask": mask.expand(3, 1, 12, 10)})
    ranges = shift.ranges(kspace, 2.0)
    assert ranges["degrees_0"] == (0.0, 0.0)
    moved = shift.apply(kspace, parameters_of(shift, kspace))
    size = kspace.image.view(3, 1, 2, 12, 10).square().sum(dim=2)
    torch.testing.assert_close(moved.image.view(3, 1, 2, 12, 10).square().sum(dim=2), size)


@every
def test_a_search_may_ask_for_the_slope_whether_or_not_there_is_one(name):
    shift, batch = SHIFTS[name], batch_for(name)
    parameters = {k: v.requires_grad_() for k, v in parameters_of(shift, batch).items()}
    assert shift.apply(batch, parameters).image.requires_grad == (name in SMOOTH)
