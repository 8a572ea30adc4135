"""DeepMedic against its paper's segments, and against single voxels written as one formula."""

import math
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med import bound
from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.components import build
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.networks.deepmedic import DeepMedic, Size, deepmedic

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
TINY = Size((2, 2, 3, 3, 3, 3, 4, 4), (5, 6))


def tiny(norm="batch"):
    """In double precision; slopes and statistics are not those of the beginning."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MADE.settled(DeepMedic(TINY, 2, 3, norm).double())
        for module in network.modules():
            if isinstance(module, nn.PReLU):
                nn.init.uniform_(module.weight, 0.1, 0.5)
    return network


def volume(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 2, *shape, generator=generator, dtype=torch.float64)


def cut(image, start, length, step=1):
    """Part of a volume `(b, c, *s)`, by places that may lie outside of it."""
    parts = [
        np.clip(np.arange(first, first + length * step, step), 0, last - 1)
        for first, last in zip(start, image.shape[2:], strict=True)
    ]
    return torch.as_tensor(image.numpy()[(slice(None), slice(None), *np.ix_(*parts))])


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_full_has_the_papers_parameters(norm):
    with torch.device("meta"):
        network = build("networks", "deepmedic", norm=norm)
        assert network(torch.empty(2, 2, 7, 12, 20)).shape == (2, 2, 7, 12, 20)
    assert MADE.parameters(network) == 659_462
    assert round(MADE.parameters(network) / 1000) == 659


def test_full_learns_from_a_segment_of_the_papers_size():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = deepmedic()
    logits = network.segment(torch.rand(1, 2, 25, 25, 25), torch.rand(1, 2, 19, 19, 19))
    assert logits.shape == (1, 2, 9, 9, 9)
    F.cross_entropy(logits, torch.randint(2, (1, 9, 9, 9))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_small_differs_in_widths_only():
    small = deepmedic(preset="small")
    with torch.device("meta"):
        full = deepmedic()
    assert MADE.parameters(small) == 84_546
    assert [type(m) for m in small.modules()] == [type(m) for m in full.modules()]


@pytest.mark.parametrize("shape", [(9, 9, 9), (1, 11, 20), (4, 9, 13)])
def test_a_whole_volume_is_answered_as_its_segments_are(shape):
    network, image = tiny(), volume(*shape)
    logits = network(image)
    assert logits.shape == (1, 3, *shape)
    for start in np.ndindex(*(math.ceil(n / 9) for n in shape)):
        first = tuple(9 * n for n in start)
        fine = cut(image, [n - 8 for n in first], 25)
        coarse = cut(image, [n - 23 for n in first], 19, step=3)
        there = (..., *(slice(n, n + 9) for n in first))
        inside = logits[there]
        found = network.segment(fine, coarse)[(..., *(slice(n) for n in inside.shape[2:]))]
        torch.testing.assert_close(found, inside, rtol=0, atol=1e-5)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (5, 7, 2), (8, 30, 30)])
def test_a_voxel_is_answered_by_the_papers_formula(voxel):
    network, image = tiny(), volume(9, 31, 31)
    state = network.state_dict()

    def unit(name, maps):
        maps = MADE.normed(state, f"{name}.1", F.conv3d(maps, state[f"{name}.0.weight"]))
        slope = state[f"{name}.2.weight"].view(-1, 1, 1, 1)
        return maps.clamp(min=0) + slope * maps.clamp(max=0)

    near = cut(image, [n - 8 for n in voxel], 17)
    far = cut(image, [n // 3 * 3 + 1 - 24 for n in voxel], 17, step=3)
    for layer in range(8):
        near, far = unit(f"fine.{layer}", near), unit(f"coarse.{layer}", far)
    maps = unit("head.2", unit("head.0", torch.cat([near, far], dim=1)))
    expected = F.conv3d(maps, state["head.4.weight"], state["head.4.bias"])[0, :, 0, 0, 0]
    torch.testing.assert_close(network(image)[(0, slice(None), *voxel)], expected)


def test_a_volume_moved_by_three_voxels_moves_the_answer():
    network, image = tiny(), volume(2, 60, 60)
    here = network(image)
    there = network(image.roll((3, -3), dims=(3, 4))).roll((-3, 3), dims=(3, 4))
    inside = (..., slice(27, 33), slice(27, 33))
    torch.testing.assert_close(there[inside], here[inside])


def test_each_case_is_answered_alone():
    image = torch.cat([volume(3, 8, 8), volume(3, 8, 8, seed=1)])
    torch.testing.assert_close(tiny()(image)[1:], tiny()(image[1:]))
    group = tiny("group")  # its dropout would differ in training mode
    torch.testing.assert_close(group(image)[1:], group(image[1:]))


def test_weights_start_he_normal_slopes_small_and_biases_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = deepmedic(preset="small")
    for name, tensor in network.named_parameters():
        if tensor.ndim == 5 and tensor.numel() > 400:
            expected = math.sqrt(2 / tensor[0].numel())
            assert tensor.std().item() == pytest.approx(expected, rel=0.15), name
        elif name.endswith("bias"):
            assert not tensor.any(), name
    slopes = [m.weight for m in network.modules() if isinstance(m, nn.PReLU)]
    assert all((slope == 0.01).all() for slope in slopes)
    assert sum(slope.numel() for slope in slopes) == 2 * sum((8, 8, 12, 12, 16, 16, 20, 20)) + 80


def test_the_traced_graph_computes_the_same():
    network, image = tiny(), volume(2, 8, 7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, image)
    torch.testing.assert_close(traced(image), network(image))


def test_it_cannot_be_bounded():
    image = volume(1, 8, 8)
    with pytest.raises(UnsupportedError, match="certify: unsupported"):
        bound(tiny(), image, image + 0.01)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_small_can_be_trained_on_slices_as_volumes(norm, tmp_path):
    cases = [
        Case(case.case_id, case.patient_id, case.image[:, None, 8:24, 8:24],
             case.target[None, 8:24, 8:24])
        for case in MADE.hearts().cases
    ]  # fmt: skip
    cohort = Cohort("volumes", Task("segmentation", MADE.hearts().task.classes), (0, 1), cases)
    first, last = MADE.learns(deepmedic, tmp_path, cohort, norm=norm)
    assert last < first


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": "tiny"}, "deepmedic: preset must be one of full, small, got 'tiny'"),
        ({"norm": "none"}, "deepmedic: norm must be one of batch, group, got 'none'"),
        ({"classes": 0}, "at least 1, got 2 and 0"),
        ({"in_channels": 0}, "at least 1, got 0 and 2"),
    ],
)
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        deepmedic(**settings)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 4, 16, 16)])
def test_wrong_volumes_are_refused(shape):
    with pytest.raises(InputError, match=r"expected volumes \(b, 2, z, y, x\), got .* z = 1"):
        tiny()(torch.rand(shape, dtype=torch.float64))
