"""What every shift must keep: the suite runs on all declared shifts."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from robustbench_med import components
from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import fft2c, to_channels
from robustbench_med.streams import CaseRng

NAMES = components.names("shifts")
KSPACE_ONLY = {"acceleration", "coil_loss", "coil_phase", "kspace_noise"}
KSPACE_TOO = {
    "coil_noise", "ghosting", "lost_lines", "mistrigger", "motion", "partial_fourier",
    "resolution", "shifted_lines", "spikes",
}  # fmt: skip
IMAGES = sorted({*NAMES} - KSPACE_ONLY)
KSPACE = sorted(KSPACE_ONLY | KSPACE_TOO)
FOLLOWS = {
    "acceleration": {"mask"}, "resolution": {"mask"}, "partial_fourier": {"mask"},
    "kspace_noise": {"noise"}, "coil_noise": {"noise"},
}  # fmt: skip
SPEAKS = {"joint": "gamma"}  # of its parts, the first
MOVES = {"placement"}  # the labels too
CINE = (1, 2, 3, 12, 12)
SHAPES = [(1, 24, 20), (3, 16, 16), (1, 5, 12, 12), CINE]
FITS = {"mistrigger": [CINE]}  # shapes of the images that a shift takes, where not all


def smooth(cases, shape):
    """Blobs of different width and place, in [0, 1], as `(b, c, *s)`."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size) for size in shape[1:]], indexing="ij")
    images = []
    for case in range(cases):
        distance = sum((axis - 0.1 * case + 0.2) ** 2 for axis in axes)
        blob = torch.exp(-distance * (2 + case)) * (0.5 + 0.5 * torch.cos(6 * axes[-1]) ** 2)
        images.append(torch.stack([blob / (1 + 0.3 * channel) for channel in range(shape[0])]))
    return torch.stack(images)


def batch_of(shape, cases=4):
    image = smooth(cases, shape)
    target = (image[:, 0] > 0.5).long()
    ids = tuple(f"case-{i}" for i in range(cases))
    return Batch(ids, image, target, {"spacing": torch.full((cases, 3), 1.5)})


def kspace_of(cases=4, rows=32, frames=()):
    """Measured k-space of two coils: the centre lines, and every other line beyond them."""
    seen = torch.stack([smooth(cases, (1, *frames, rows, 24))[:, 0]] * 2, dim=1)
    axes = (1,) * (len(frames) + 2)
    maps = torch.tensor([1.0, 0.5j]).view(1, 2, *axes)
    mask = torch.zeros(cases, 1, *axes[:-2], rows, 24)
    mask[..., ::2, :] = 1
    mask[..., rows // 2 - 4 : rows // 2 + 4, :] = 1
    noise = torch.linspace(0.01, 0.02, cases)
    ids = tuple(f"case-{i}" for i in range(cases))
    context = {"mask": mask, "noise": noise, "spacing": torch.full((cases, 3), 1.5)}
    return Batch(
        ids, to_channels(fft2c(seen * maps)) * mask, to_channels(seen[:, :1] + 0j), context
    )


def images_for(name):
    return batch_of(FITS.get(name, SHAPES)[0])


def kspace_for(name, cases=4):
    """k-space that a shift takes."""
    return kspace_of(cases, frames=(3, 2) if name == "mistrigger" else ())


def large_for(name):
    """Twelve cases of the largest images that are no volumes, where a shift takes such."""
    fits = FITS.get(name, SHAPES)
    return batch_of((1, 32, 32) if SHAPES[0] in fits else (fits[0][0], *fits[0][1:-2], 32, 32), 12)


INPUTS = [
    *(pytest.param(name, batch_of(shape), id=f"{name}-{shape}") for name in IMAGES
      for shape in FITS.get(name, SHAPES)),
    *(pytest.param(name, kspace_for(name), id=f"{name}-kspace") for name in KSPACE),
]  # fmt: skip
MANY = [
    *(pytest.param(name, large_for(name), id=name) for name in IMAGES),
    *(pytest.param(name, kspace_for(name, 12), id=f"{name}-kspace") for name in KSPACE),
]


def test_the_suite_asks_every_shift():
    assert {*IMAGES, *KSPACE} == {*NAMES}


def rng_of(batch, name="law"):
    return CaseRng(5, name, batch.case_ids)


@pytest.mark.parametrize(("name", "batch"), INPUTS)
def test_severity_0_returns_the_batch_itself(name, batch):
    assert components.build("shifts", name)(batch, 0.0, rng_of(batch)) is batch


@pytest.mark.parametrize("severity", [-0.5, 5.001, float("inf"), float("nan")])
@pytest.mark.parametrize("name", NAMES)
def test_a_severity_outside_0_to_5_is_refused_by_name(name, severity):
    batch = kspace_for(name) if name in KSPACE_ONLY else images_for(name)
    said = f"{SPEAKS.get(name, name)}: severity must be from 0 to 5, got {severity}"
    with pytest.raises(InputError, match=said) as refused:
        components.build("shifts", name)(batch, severity, rng_of(batch))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "batch"), INPUTS)
def test_a_shift_changes_images_and_nothing_else(name, batch):
    before = batch.image.clone()
    moved = components.build("shifts", name)(batch, 2.0, rng_of(batch))
    assert torch.equal(batch.image, before)
    assert moved.image.shape == batch.image.shape
    assert moved.image.dtype == batch.image.dtype
    assert moved.image.isfinite().all()
    assert "mask" in batch.context or moved.image.min() >= 0
    assert moved.case_ids == batch.case_ids
    assert name in MOVES or torch.equal(moved.target, batch.target)
    assert (moved.target.shape, moved.target.dtype) == (batch.target.shape, batch.target.dtype)
    assert not any(torch.equal(moved.image[i], before[i]) for i in range(len(batch)))


@pytest.mark.parametrize(("name", "batch"), INPUTS)
def test_of_the_context_only_what_describes_the_measurement_may_follow(name, batch):
    moved = components.build("shifts", name)(batch, 2.0, rng_of(batch))
    follows = FOLLOWS.get(name, set()) & {*batch.context}
    assert {*moved.context} == {*batch.context}
    for key, value in batch.context.items():
        assert moved.context[key].shape == value.shape
        assert moved.context[key].dtype == value.dtype
        assert torch.equal(moved.context[key], value) == (key not in follows)


@pytest.mark.parametrize("name", KSPACE)
def test_samples_that_were_not_acquired_stay_0_and_none_are_added(name):
    batch = kspace_for(name)
    moved = components.build("shifts", name)(batch, 2.0, rng_of(batch))
    assert (moved.context["mask"] <= batch.context["mask"]).all()
    outside = (moved.context["mask"] == 0).expand_as(moved.image)
    assert (moved.image[outside] == 0).all()


@pytest.mark.parametrize("name", sorted({*NAMES} - KSPACE_TOO))
def test_a_shift_of_images_refuses_kspace_and_the_other_way_round(name):
    batch = images_for(name) if name in KSPACE_ONLY else kspace_of()
    said = SPEAKS.get(name, name)
    with pytest.raises(CaseError, match=f"{said}: .*k-space|{said}: needs magnitude") as refused:
        components.build("shifts", name)(batch, 1.0, rng_of(batch))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "batch"), INPUTS)
def test_a_case_is_shifted_the_same_alone_and_again(name, batch):
    shift = components.build("shifts", name)
    together = shift(batch, 2.0, rng_of(batch))
    assert torch.equal(shift(batch, 2.0, rng_of(batch)).image, together.image)
    alone = [shift(batch[i], 2.0, rng_of(batch[i])) for i in range(len(batch))]
    images = torch.cat([one.image for one in alone])
    torch.testing.assert_close(images, together.image, atol=1e-5, rtol=0)
    for key, value in together.context.items():
        assert torch.equal(torch.cat([one.context[key] for one in alone]), value)


@pytest.mark.parametrize(("name", "batch"), MANY)
def test_more_severity_does_more_damage(name, batch):
    shift = components.build("shifts", name)
    power = batch.image.square().sum()
    damage = []
    for severity in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0):
        moved = shift(batch, severity, rng_of(batch, f"{name}@{severity:g}")).image
        damage.append(float((moved - batch.image).square().sum() / power))
    assert damage[0] == 0
    assert all(more > less for less, more in pairwise(damage)), damage


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_leaves_the_global_random_state_alone(name):
    batch = kspace_for(name) if name in KSPACE_ONLY else images_for(name)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    components.build("shifts", name)(batch, 1.0, rng_of(batch))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
