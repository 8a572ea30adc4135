"""Resolution against resampling, the Dirichlet kernel, and what must stay."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from robustbench_med.attacks.physics import Physics
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.physics.fourier import fft2c, ifft2c, to_channels, to_complex
from robustbench_med.searching import searched
from robustbench_med.shifts.resolution import Resolution, inner
from robustbench_med.streams import CaseRng


def shifted(image, severity=2.0, loss=0.25, context=None):
    ids = tuple(map(str, range(len(image))))
    batch = Batch(ids, image, image, context or {})
    levels = [loss * level for level in range(1, 6)]
    return Resolution(levels)(batch, severity, CaseRng(0, "r", ids))


def blobs(rows=24, columns=20):
    axes = torch.meshgrid(
        torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij"
    )
    blob = torch.exp(-6 * (axes[0] ** 2 + (axes[1] - 0.2) ** 2)).double()
    return 0.3 + 0.5 * blob.expand(2, 1, -1, -1)


def test_the_inner_share_is_centred_and_symmetric():
    for size in (1, 2, 9, 24, 25):
        for share in (0.99, 0.7, 0.31, 1e-6):
            kept = inner(size, share)
            assert kept[size // 2]
            frequency = kept.nonzero().flatten() - size // 2
            assert torch.equal(frequency, -frequency.flip(0))
            assert abs(int(kept.sum()) - share * size) <= 1


def test_a_point_becomes_the_dirichlet_kernel():
    image = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    image[0, 0, 12, 12] = 1
    found = shifted(image, severity=4.0).image[0, 0]
    # Half of 24 frequencies: those from -5 to 5.
    turn = 2 * math.pi * (np.arange(24) - 12) / 24
    kernel = signal.windows.boxcar(11) @ np.cos(np.arange(-5, 6)[:, None] * turn) / 24
    np.testing.assert_allclose(found, np.abs(np.outer(kernel, kernel)), atol=1e-12)


def test_a_smooth_image_is_what_scipy_resamples_it_to_and_back():
    image = blobs(rows=25, columns=25)
    found = shifted(image, severity=4.0).image[0, 0].numpy()
    small = image[0, 0].numpy()
    for axis in (0, 1):
        # 13 of 25 samples hold the frequencies from -6 to 6.
        small = signal.resample(signal.resample(small, 13, axis=axis), 25, axis=axis)
    np.testing.assert_allclose(found, small, atol=1e-12)


def test_constants_and_the_sum_stay():
    flat = torch.full((1, 2, 3, 9, 8), 0.4)
    torch.testing.assert_close(shifted(flat).image, flat)
    image = blobs()
    torch.testing.assert_close(shifted(image).image.sum(dim=(2, 3)), image.sum(dim=(2, 3)))


def test_every_slice_and_phase_is_cut_alike():
    image = torch.rand(2, 1, 2, 3, 8, 9)
    found = shifted(image).image
    alone = shifted(image[:, :, 1, 2]).image
    torch.testing.assert_close(found[:, :, 1, 2], alone)


def test_in_kspace_samples_and_mask_end_at_the_same_edge_and_the_rest_stays():
    kspace = torch.randn(3, 4, 16, 12)
    mask = torch.zeros(3, 1, 16, 12)
    mask[:, :, 1::2] = 1
    context = {"mask": mask, "noise": torch.full((3,), 0.1)}
    moved = shifted(kspace * mask, 4.0, context=context)
    rows, columns = inner(16, 0.5), inner(12, 0.5)
    inside = (rows[:, None] & columns).expand_as(kspace)
    assert torch.equal(moved.image, (kspace * mask).where(inside, 0))
    assert torch.equal(moved.context["mask"], mask.where(inside[:, :1], 0))
    assert torch.equal(moved.context["noise"], context["noise"])
    assert torch.equal(moved.target, kspace * mask)


def test_fully_sampled_kspace_and_its_magnitude_image_agree():
    image = blobs()
    kspace = to_channels(fft2c(image))
    moved = shifted(kspace, 2.0, context={"mask": torch.ones(2, 1, 24, 20)})
    torch.testing.assert_close(ifft2c(to_complex(moved.image)).abs(), shifted(image).image)


def test_what_cannot_be_cut_is_refused():
    mask = torch.zeros(1, 1, 16, 16)
    mask[:, :, 0] = 1
    with pytest.raises(CaseError, match="'0' has no acquired sample: none lies in the inner"):
        shifted(torch.zeros(1, 2, 16, 16), context={"mask": mask})
    with pytest.raises(CaseError, match="needs magnitude images"):
        shifted(-torch.ones(1, 1, 4, 4))
    with pytest.raises(UnsupportedError, match="two or more spatial axes"):
        shifted(torch.rand(1, 1, 8))
    with pytest.raises(InputError, match="loss must be five numbers above 0"):
        Resolution(0.0)


def test_the_worst_loss_is_that_of_an_enumeration_of_its_steps():
    """A pattern that only some losses turn: harm that does not grow with the loss."""
    along = 2 * math.pi * torch.arange(24.0)
    image = 0.5 + 0.2 * torch.cos(along * 7 / 24) + 0.2 * torch.cos(along * 4 / 24)
    batch = Batch(("a",), image.expand(1, 1, 24, 24).contiguous(), torch.zeros(1, 1))
    spot = lambda image: image[:, 0, 12, 12:13]  # noqa: E731
    shift = Resolution((0.5, 1.0, 1.5, 2.0, 2.5))

    class Reader:
        task, bounds = Task("regression", ("spot",)), (0.0, 1.0)

        def __call__(self, image, context=None):
            return spot(image)

    metric = {"error": lambda output, target: (output - target).square().mean(dim=1)}
    probe = searched("resolution", Physics(32), shift, 5.0, metric)
    found = probe.measure(Reader(), batch, CaseRng(2, "r", ("a",)))
    losses = torch.linspace(0, 2.5, 1001)  # finer than the steps, of which there are 9
    every = [float(spot(shift.apply(batch, {"loss": loss.view(1)}).image)) ** 2 for loss in losses]
    assert max(every) > max(every[0], every[-1]) + 0.05
    assert float(found["error"]) == pytest.approx(max(every), abs=1e-6)
    assert 0 < float(found["found.loss"]) < 2.5


def test_each_case_of_kspace_has_a_loss_of_its_own_and_0_keeps_all():
    image = to_channels(fft2c(blobs(16, 12)))
    mask = torch.ones(2, 1, 16, 12)
    batch = Batch(("a", "b"), image, image, {"mask": mask})
    moved = Resolution().apply(batch, {"loss": torch.tensor([0.0, 1.0])})
    assert torch.equal(moved.image[0], image[0])
    assert torch.equal(moved.context["mask"][0], mask[0])
    alone = shifted(image[1:], 4.0, 0.25, {"mask": mask[1:]})
    assert torch.equal(moved.image[1], alone.image[0])
    assert torch.equal(moved.context["mask"][1], alone.context["mask"][0])
