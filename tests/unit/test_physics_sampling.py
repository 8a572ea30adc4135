"""Line masks against their law, by counting and by simulation."""

import numpy as np
import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.physics.sampling import cartesian_mask


def mask(lines, acceleration, centre, seed=0):
    return cartesian_mask(lines, acceleration, centre, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lines", [32, 49, 96, 256])
@pytest.mark.parametrize("acceleration", [1, 2.5, 4, 7])
@pytest.mark.parametrize("centre", [0, 1, 4])
def test_as_many_lines_as_the_acceleration_leaves_with_the_centre_among_them(
    lines, acceleration, centre
):
    drawn = mask(lines, acceleration, centre)
    assert drawn.dtype == torch.bool
    assert drawn.shape == (lines,)
    assert drawn.sum() == int(lines / acceleration)
    first = lines // 2 - centre // 2
    assert drawn[first : first + centre].all()


def test_floating_point_never_costs_a_line():
    for measured in range(1, 200):
        assert mask(199, 199 / measured, 1).sum() == measured


def test_the_generator_alone_decides_the_draw():
    assert torch.equal(mask(96, 4, 8, seed=3), mask(96, 4, 8, seed=3))
    assert not torch.equal(mask(96, 4, 8, seed=3), mask(96, 4, 8, seed=4))
    before = torch.random.get_rng_state()
    mask(96, 4, 8)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_line_beside_the_centre_follows_the_density():
    lines, acceleration, centre, draws = 20, 4, 4, 20_000
    generator = torch.Generator().manual_seed(0)
    counts = sum(
        cartesian_mask(lines, acceleration, centre, generator).double() for _ in range(draws)
    )
    offset = np.arange(lines) - lines / 2
    density = np.exp(-(0.5 / (lines / 10) ** 2) * offset**2) + 1 / (2 * acceleration)
    density[8:12] = 0
    expected = density / density.sum()
    found = counts.numpy() / draws
    assert (found[8:12] == 1).all()
    found[8:12] = 0
    deviation = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(found - expected) <= 4 * deviation).all()


def test_several_lines_follow_successive_draws_without_replacement():
    lines, acceleration, centre, draws = 16, 4, 0, 4000
    generator, other = torch.Generator().manual_seed(0), np.random.default_rng(0)
    found = sum(
        cartesian_mask(lines, acceleration, centre, generator).double() for _ in range(draws)
    )
    offset = np.arange(lines) - lines / 2
    density = np.exp(-(0.5 / (lines / 10) ** 2) * offset**2) + 1 / (2 * acceleration)
    expected = np.zeros(lines)
    for _ in range(draws):
        expected[other.choice(lines, 4, replace=False, p=density / density.sum())] += 1
    difference = np.abs(found.numpy() - expected) / draws
    assert difference.max() < 4 * np.sqrt(0.5 / draws)


@pytest.mark.parametrize(
    ("lines", "acceleration", "centre", "message"),
    [
        (96, 0.5, 8, "acceleration must be finite and at least 1, got 0.5"),
        (96, float("nan"), 8, "finite and at least 1, got nan"),
        (96, float("inf"), 8, "finite and at least 1, got inf"),
        (96, 97, 0, "leaves none of 96 lines"),
        (96, 1, 97, "97 centre lines, but there are only 96 lines"),
        (96, 8, 13, "allows 12 of 96 lines, fewer than the 13 centre lines"),
        (0, 1, 0, "at least 1 line"),
        (96, 4, -1, "at least 0 centre lines"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(lines, acceleration, centre, message):
    with pytest.raises(InputError, match=message) as refused:
        mask(lines, acceleration, centre)
    assert "\n" not in str(refused.value)
