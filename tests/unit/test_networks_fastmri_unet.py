"""The fastMRI baseline against its layers written as one formula, and its laws."""

import pytest
import torch
from torch.nn import functional as F

from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.fastmri_unet import WIDTHS, FastmriUNet, fastmri_unet
from robustbench_med.physics.coils import adjoint, forward, sensitivities
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.physics.sampling import cartesian_mask


def built(widths=(3, 6, 12), seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FastmriUNet(widths).eval()


def case(size=(24, 16), coils=1, cases=2):
    stream = torch.Generator().manual_seed(0)
    image = torch.randn(cases, *size, dtype=torch.complex64, generator=stream)
    lines = cartesian_mask(size[0], 2, 4, stream).float()
    context = {"mask": lines[None, None, :, None].repeat(cases, 1, 1, size[1])}
    maps = None
    if coils > 1:
        maps = sensitivities(coils, size, 8.0).expand(cases, -1, -1, -1)
        context["maps"] = to_channels(maps)
    return to_channels(forward(image, maps, context["mask"])), context


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_presets_have_their_parameters_and_differ_in_depth_and_widths_only():
    with torch.device("meta"):
        full, small = build("networks", "fastmri_unet"), fastmri_unet(preset="small", in_channels=8)
        magnitudes = FastmriUNet(WIDTHS["full"], channels=1)
    assert parameters(full) == 7_756_418
    assert parameters(magnitudes) == 7_756_097
    assert parameters(small) == 481_090
    assert {type(m) for m in full.modules()} == {type(m) for m in small.modules()}


def test_the_full_size_runs_forward_and_backward_at_the_papers_320_pixels():
    with torch.device("meta"):
        network = fastmri_unet()
        kspace, mask = torch.empty(1, 2, 320, 320), torch.empty(1, 1, 320, 320)
        output = network(kspace, {"mask": mask})
        output.square().sum().backward()
    assert output.shape == (1, 2, 320, 320)
    assert all(parameter.grad.shape == parameter.shape for parameter in network.parameters())


def normalised(maps):
    mean = maps.mean(dim=(2, 3), keepdim=True)
    variance = (maps - mean).square().mean(dim=(2, 3), keepdim=True)
    maps = (maps - mean) / (variance + 1e-5).sqrt()
    return torch.where(maps > 0, maps, 0.2 * maps)


@pytest.mark.parametrize("size", [(24, 16), (19, 26)])
def test_it_is_its_layers_written_as_one_formula(size):
    network = built().double()
    kspace, context = case(size)
    kspace, mask = kspace.double(), context["mask"].double()
    weights = list(network.parameters())

    def twice(maps, first):
        for weight in weights[first : first + 2]:
            maps = normalised(F.conv2d(maps, weight, padding=1))
        return maps

    def up(coarse, fine, first):
        maps = normalised(F.conv_transpose2d(coarse, weights[first], stride=2))
        if maps.shape[2] < fine.shape[2]:  # one row is mirrored about the last
            maps = torch.cat([maps, maps[:, :, -2:-1]], dim=2)
        if maps.shape[3] < fine.shape[3]:
            maps = torch.cat([maps, maps[..., -2:-1]], dim=3)
        return torch.cat([maps, fine], dim=1)

    start = to_channels(adjoint(to_complex(kspace), None, mask)[:, None])
    mean, deviation = start.mean(dim=(2, 3), keepdim=True), start.std(dim=(2, 3), keepdim=True)
    fine = twice((start - mean) / deviation, 0)
    middle = twice(F.avg_pool2d(fine, 2), 2)
    coarse = twice(F.avg_pool2d(middle, 2), 4)
    middle = twice(up(coarse, middle, 6), 8)
    fine = twice(up(middle, fine, 7), 10)
    expected = mean + deviation * F.conv2d(fine, weights[12], weights[13])
    torch.testing.assert_close(network(kspace, {"mask": mask}), expected)


@pytest.mark.parametrize("coils", [1, 3])
def test_ten_times_the_signal_gives_ten_times_the_image(coils):
    kspace, context = case(coils=coils)
    torch.testing.assert_close(
        built()(10 * kspace, context), 10 * built()(kspace, context), rtol=1e-4, atol=1e-4
    )


def test_a_move_by_whole_coarse_pixels_moves_the_image_but_for_the_borders_share_in_the_mean():
    network = built().double()
    image = torch.zeros(1, 2, 96, 64, dtype=torch.float64)
    stream = torch.Generator().manual_seed(0)
    image[..., 40:56, 24:40] = torch.randn(2, 16, 16, dtype=torch.float64, generator=stream)
    seen = network.enhance(image)

    def apart(pixels):
        moved = network.enhance(image.roll(pixels, 2)).roll(-pixels, 2)
        return ((moved - seen)[..., 24:72, 20:44].norm() / seen[..., 24:72, 20:44].norm()).item()

    assert apart(4) < 2e-3
    assert apart(1) > 20 * apart(4)


@pytest.mark.parametrize("training", [False, True])
def test_a_case_is_reconstructed_the_same_in_any_batch(training):
    kspace, context = case(coils=3)
    network = built().train(training)
    alone = network(kspace[1:], {name: value[1:] for name, value in context.items()})
    torch.testing.assert_close(network(kspace, context)[1:], alone, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_measurement_and_every_weight():
    kspace, context = case(coils=2)
    network = built()
    network(kspace.requires_grad_(), context).square().sum().backward()
    assert (kspace.grad * (1 - context["mask"]) == 0).all()
    assert kspace.grad.abs().max() > 0
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_a_black_image_stays_black_with_a_finite_derivative():
    kspace = torch.zeros(2, 2, 16, 16, requires_grad=True)
    output = built()(kspace, {"mask": torch.ones(2, 1, 16, 16)})
    assert output.abs().max() < 1e-9
    output.sum().backward()
    assert kspace.grad.isfinite().all()


@pytest.mark.parametrize("size", [(4, 7), (3, 64)])
def test_an_image_that_cannot_be_pooled_is_refused(size):
    kspace, context = torch.ones(1, 2, *size), {"mask": torch.ones(1, 1, *size)}
    with pytest.raises(InputError, match=f"at least 4 x 8 pixels, got {size[0]} x {size[1]}; take"):
        built()(kspace, context)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tiny"}, "full, small, got 'tiny'"),
        ({"in_channels": 3}, "even, two for each coil"),
        ({"classes": 1}, "classes 2"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        fastmri_unet(**settings)
