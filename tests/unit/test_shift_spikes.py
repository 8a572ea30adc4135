"""Spikes against plane waves of known height, the k-space they were put in, and MONAI."""

import pytest
import torch
from monai.transforms import KSpaceSpikeNoise

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, InputError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.shifts.spikes import Spikes
from robustbench_med.streams import CaseRng

ROWS, COLUMNS = 12, 10


@pytest.fixture
def image():
    return torch.rand(2, 1, ROWS, COLUMNS, dtype=torch.float64, generator=torch.manual_seed(0))


def batch_of(image, **context):
    return Batch(tuple(map(str, range(len(image)))), image, torch.zeros(len(image)), context)


def middle(index, size):
    return (index + 0.5) / size


def spiked(image, intensity, places, spikes=None, **context):
    """One spike for each `(row, column, phase)`: shares of the axes, and turns."""
    shift = Spikes(most=len(places))
    numbers = {"intensity": intensity, "spikes": spikes or len(places)}
    for spike, place in enumerate(places):
        numbers |= {
            f"{n}_{spike}": v for n, v in zip(("row", "column", "phase"), place, strict=True)
        }
    values = {
        n: torch.full((len(image),), float(v), dtype=torch.float64) for n, v in numbers.items()
    }
    return shift.apply(batch_of(image, **context), values)


def grid():
    axes = [torch.arange(size, dtype=torch.float64) - size // 2 for size in (ROWS, COLUMNS)]
    return torch.meshgrid(*axes, indexing="ij")


def test_one_spike_adds_a_plane_wave_of_known_height(image):
    row, column, phase = 9, 3, 0.2
    found = spiked(image, 0.3, [(middle(row, ROWS), middle(column, COLUMNS), phase)]).image
    y, x = grid()
    turn = y * (row - ROWS // 2) / ROWS + x * (column - COLUMNS // 2) / COLUMNS + phase
    for case in range(2):
        wave = 0.3 * image[case].mean() * torch.exp(2j * torch.pi * turn)
        torch.testing.assert_close(found[case, 0], (image[case, 0] + wave).abs())


def test_an_image_is_what_becomes_of_its_kspace(image):
    places = [(0.9, 0.1, 0.3), (0.2, 0.65, 0.8), (0.5, 0.999, 0.0)]
    kspace = to_channels(fft2c(image))
    found = spiked(kspace, 0.4, places, mask=torch.ones(2, 1, ROWS, COLUMNS)).image
    torch.testing.assert_close(
        ifft2c(to_complex(found)).abs(), spiked(image, 0.4, places).image, atol=1e-9, rtol=0
    )


def test_what_is_added_is_one_sample_a_spike_of_the_share_that_was_asked(image):
    kspace = torch.cat([to_channels(fft2c(image)), to_channels(fft2c(image / 2))], dim=1)
    mask = torch.ones(2, 1, ROWS, COLUMNS)
    places = [(0.9, 0.1, 0.25), (0.2, 0.65, 0.25)]
    added = to_complex(spiked(kspace, 0.5, places, mask=mask).image - kspace)
    largest = to_complex(kspace).abs().flatten(1).amax(dim=1)
    assert torch.equal((added.abs() > 1e-9).sum(dim=(2, 3)), torch.full((2, 2), 2))
    for case in range(2):
        assert added[case, :, 10, 1].tolist() == pytest.approx([0.5j * float(largest[case])] * 2)


def test_spikes_fall_on_acquired_samples():
    generator = torch.manual_seed(1)
    mask = (torch.rand(50, 1, 9, 8, generator=generator) < 0.2).float()
    mask[:, :, 4, 4] = 1
    kspace = torch.randn(50, 4, 9, 8, generator=generator) * mask
    batch = batch_of(kspace, mask=mask)
    added = Spikes()(batch, 5, CaseRng(0, "s", batch.case_ids)).image - kspace
    assert (added[(mask == 0).expand_as(added)] == 0).all()
    count = (added.square().sum(dim=1) > 0).sum(dim=(1, 2))
    assert {*count.tolist()} <= {1, 2, 3}
    assert len({*count.tolist()}) == 3


def test_monai_raises_the_same_sample_to_the_same_height(image):
    """It sets the logarithm of the sample's magnitude, keeps its phase and returns the real part.

    So it adds what is missing, of the sample's own phase.
    """
    row, column = 2, 7
    height = 0.8 * float(image[0].sum())
    expected = KSpaceSpikeNoise((row, column), float(torch.tensor(height).log()))(image[0])
    kspace = fft2c(image[:1])
    sample = kspace[0, 0, row, column]
    missing = height / (ROWS * COLUMNS) ** 0.5 - float(sample.abs())
    phase = float(sample.angle()) / (2 * torch.pi)
    place = (middle(row, ROWS), middle(column, COLUMNS), phase)
    share = missing / float(kspace.abs().max())
    mask = torch.ones(1, 1, ROWS, COLUMNS)
    found = spiked(to_channels(kspace), share, [place], mask=mask).image
    torch.testing.assert_close(
        ifft2c(to_complex(found)).real, expected.as_tensor()[None].double(), atol=1e-6, rtol=0
    )


def test_slices_share_places_and_fewer_spikes_may_do(image):
    volume = torch.stack([image, 2 * image], dim=2)
    places = [(0.9, 0.1, 0.3), (0.2, 0.65, 0.8)]
    found = spiked(volume, 0.2, places).image
    torch.testing.assert_close(found[:, :, 1], spiked(2 * image, 0.2, places).image)
    torch.testing.assert_close(found[:, :, 0], spiked(image, 0.4, places).image)
    one = spiked(image, 0.2, places, spikes=1).image
    torch.testing.assert_close(one, spiked(image, 0.2, places[:1]).image)


def test_slopes_lead_to_intensity_and_phase(image):
    rest = {"spikes": 1.0, "row_0": 0.9, "column_0": 0.2}
    rest = {name: torch.tensor([value] * 2) for name, value in rest.items()}
    shift, image = Spikes(most=1), image[..., :4, :5]
    for context in ({}, {"mask": torch.ones(2, 1, 4, 5)}):
        batch = batch_of(image.repeat(1, 2 if context else 1, 1, 1), **context)
        assert torch.autograd.gradcheck(
            lambda value, phase, batch=batch: (
                shift.apply(batch, {"intensity": value, "phase_0": phase, **rest}).image
            ),
            [torch.rand(2, dtype=torch.float64, requires_grad=True) for _ in range(2)],
        )


def test_places_are_alike_at_every_severity_and_the_intensity_is_the_levels(image):
    kspace = to_channels(fft2c(image))
    batch = batch_of(kspace, mask=torch.ones(2, 1, ROWS, COLUMNS))
    one, four = (
        Spikes()(batch, v, CaseRng(0, f"s@{v}", batch.case_ids)).image - kspace for v in (1, 4)
    )
    torch.testing.assert_close(6 * one, four, atol=1e-6, rtol=0)


def test_what_cannot_be_is_refused(image):
    with pytest.raises(CaseError, match="spikes: needs magnitude images"):
        spiked(-image, 0.1, [(0, 0, 0)])
    with pytest.raises(InputError, match="spikes: most must be a whole number"):
        Spikes(most=0)
    with pytest.raises(InputError, match="spikes: intensity must be five numbers"):
        Spikes(0.1)
    with pytest.raises(InputError, match="severity must be from 0 to 5"):
        Spikes()(batch_of(image), -1, CaseRng(0, "g", ("0", "1")))
