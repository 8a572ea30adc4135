"""What every shift must keep: the suite runs on all declared shifts."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from robustbench_med import components
from robustbench_med.cases import Batch
from robustbench_med.streams import CaseRng

NAMES = components.names("shifts")
SHAPES = [(1, 24, 20), (3, 16, 16), (1, 5, 12, 12)]


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


def rng_of(batch, name="law"):
    return CaseRng(5, name, batch.case_ids)


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_returns_the_batch_itself(name):
    batch = batch_of(SHAPES[0])
    assert components.build("shifts", name)(batch, 0.0, rng_of(batch)) is batch


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_shift_changes_images_and_nothing_else(name, shape):
    batch = batch_of(shape)
    before = batch.image.clone()
    moved = components.build("shifts", name)(batch, 2.0, rng_of(batch))
    assert torch.equal(batch.image, before)
    assert moved.image.shape == batch.image.shape
    assert moved.image.dtype == batch.image.dtype
    assert moved.image.isfinite().all()
    assert moved.image.min() >= 0
    assert moved.case_ids == batch.case_ids
    assert torch.equal(moved.target, batch.target)
    assert all(torch.equal(moved.context[key], value) for key, value in batch.context.items())
    assert not any(torch.equal(moved.image[i], before[i]) for i in range(len(batch)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_shifted_the_same_alone_and_again(name, shape):
    shift, batch = components.build("shifts", name), batch_of(shape)
    together = shift(batch, 2.0, rng_of(batch)).image
    assert torch.equal(shift(batch, 2.0, rng_of(batch)).image, together)
    alone = [shift(batch[i], 2.0, rng_of(batch[i])).image for i in range(len(batch))]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_more_severity_does_more_damage(name):
    shift, batch = components.build("shifts", name), batch_of((1, 32, 32), cases=12)
    power = batch.image.square().sum()
    damage = []
    for severity in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0):
        moved = shift(batch, severity, rng_of(batch, f"{name}@{severity:g}")).image
        damage.append(float((moved - batch.image).square().sum() / power))
    assert damage[0] == 0
    assert all(more > less for less, more in pairwise(damage)), damage


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_leaves_the_global_random_state_alone(name):
    batch = batch_of(SHAPES[0])
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    components.build("shifts", name)(batch, 1.0, rng_of(batch))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
