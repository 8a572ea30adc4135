"""Error limits hold against closed forms and attacks, and are what the checker derives again."""

import math

import numpy as np
import pytest
import torch

from robustbench_med.certify.image_limits import change_limits, error_limits
from robustbench_med.certify.lowering import lowered
from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.metrics.nmse_complex import NmseComplex
from robustbench_med.metrics.psnr import Psnr
from robustbench_med.metrics.psnr_complex import PsnrComplex
from robustbench_med.networks.deep_cascade import DeepCascade, Size
from robustbench_med.networks.fixed_cascade import columnwise, inverse_transform
from robustbench_med.networks.subpixel import espcn
from robustbench_med.proofs.check import check
from robustbench_med.proofs.energy import by_voxel, stretch
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.proof import InputSet

SIDE = 6


def zero_filled(side=SIDE):
    """The inverse transform as a network, and as a matrix of flat k-space."""
    weights = columnwise(inverse_transform(side))[:, :, 0, 0].numpy()
    shape = (2, side, side)
    nodes = [Node("input", (), shape)]

    def add(kind, wanted, **given):
        arrays = {name: each for name, each in given.items() if isinstance(each, np.ndarray)}
        settings = {name: each for name, each in given.items() if isinstance(each, tuple)}
        nodes.append(Node(kind, (len(nodes) - 1,), wanted, arrays, settings))

    for _ in range(2):  # along the columns, and along the rows after a turn
        add("reshape", (2 * side, side))
        add("along", (2 * side, side), weight=weights, axis=(0,))
        add("reshape", shape)
        add("permute", shape, axes=(0, 2, 1))
    network = Network(tuple(nodes))
    whole = inverse_transform(side).numpy()
    kron = np.kron(whole, whole)
    return network, np.block([[kron.real, -kron.imag], [kron.imag, kron.real]])


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def box(centre, mask, eps):
    return InputSet(centre - eps * mask, centre + eps * mask)


def test_zero_filling_in_a_ball_moves_a_value_by_the_norm_of_its_row():
    network, matrix = zero_filled()
    centre, free = drawn(2, SIDE, SIDE), np.zeros((2, SIDE, SIDE))
    free[:, ::2] = 1
    radius, start = 0.3, (matrix @ centre.ravel()).reshape(centre.shape)
    around = InputSet(centre - radius * free, centre + radius * free, centre, radius)
    found = error_limits(network, around, start)
    reach = radius * np.linalg.norm(matrix * free.ravel(), axis=1).reshape(centre.shape)
    assert np.allclose(found.high - start, reach, atol=1e-7)
    assert np.allclose(start - found.low, reach, atol=1e-7)
    assert found.worst_pixel == pytest.approx(np.hypot(*reach).max(), abs=1e-7)
    # Every direction of an orthonormal map is stretched alike: the energy is the radius squared.
    assert found.energy[1] == pytest.approx(radius**2, rel=1e-6)
    assert found.energy[1] >= radius**2
    assert by_voxel(found.low.ravel() - start.ravel(), found.high.ravel() - start.ravel())[
        1
    ] == pytest.approx(radius**2 * free.sum(), rel=1e-6)


def test_one_sample_of_a_box_has_the_nmse_of_its_end():
    network, matrix = zero_filled()
    centre, free, eps = drawn(2, SIDE, SIDE), np.zeros((2, SIDE, SIDE)), 0.7
    free[0, 2, 3] = 1
    reference = drawn(2, SIDE, SIDE, seed=1)
    found = error_limits(network, box(centre, free, eps), reference)
    ends = [matrix @ (centre + sign * eps * free).ravel() - reference.ravel() for sign in (-1, 1)]
    true = max(float(end @ end) for end in ends) / np.square(reference).sum()
    assert true <= found.nmse[1] <= true * (1 + 1e-6)
    assert found.worst_pixel >= max(
        np.hypot(*end.reshape(2, -1)).max() for end in ends
    )  # fmt: skip


def test_a_mean_bounded_as_one_row_is_closer_than_the_mean_of_its_voxels_limits():
    network, matrix = zero_filled()
    centre, free, eps = drawn(2, SIDE, SIDE), np.ones((2, SIDE, SIDE)), 0.1
    region = np.zeros((SIDE, SIDE), dtype=bool)
    region[1:4, 2:5] = True
    reference = drawn(2, SIDE, SIDE, seed=1)
    found = error_limits(network, box(centre, free, eps), reference, region=region)
    start = (matrix @ centre.ravel()).reshape(centre.shape) - reference
    for channel in range(2):
        row = matrix.reshape(2, SIDE * SIDE, -1)[channel][region.ravel()].mean(0)
        middle, reach = start[channel][region].mean(), eps * np.abs(row).sum()
        low, high = found.region_mean[channel]
        assert low <= middle - reach <= low + 1e-7
        assert high - 1e-7 <= middle + reach <= high
        alone = (found.high - reference)[channel][region].mean()
        assert high - middle < 0.7 * (alone - middle)


def cascade(side):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = DeepCascade(Size(2, 2, 4), None).double().eval()
    mask = torch.zeros(1, side, side)
    mask[:, ::2] = 1
    kspace = torch.from_numpy(drawn(1, 2, side, side)) * mask
    fixed = network.fixed(mask).requires_grad_(requires_grad=False)
    return fixed, kspace, mask


def ascended(network, around, reference, aim, steps=40):
    """Errors of images that gradient ascent passes through, `(n, 2, h, w)`."""
    low, high = (torch.from_numpy(end)[None] for end in (around.low, around.high))
    middle = (low + high) / 2
    image, seen = middle + 1e-3 * (high - low) * torch.rand_like(low), []
    for _ in range(steps):
        image = image.detach().requires_grad_()
        error = network(image) - reference
        (slope,) = torch.autograd.grad(aim(error), image)
        seen.append(error.detach()[0])
        if around.centre is None:
            image = (image + slope.sign() * (high - low) / 6).clamp(low, high)
        else:
            moved = (image + slope / slope.norm() * around.radius / 3 - middle) * (high > low)
            image = middle + moved * min(1.0, around.radius / float(moved.detach().norm()))
    return torch.stack(seen)


@pytest.mark.parametrize(("share", "closeness"), [(0.001, 1.02), (0.005, 1.5)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_attack_on_a_cascade_passes_the_limits(share, closeness, norm):
    network, kspace, mask = cascade(8)
    free = mask.expand(2, -1, -1).numpy().astype(np.float64)
    rms = float(kspace.square().sum() / free.sum()) ** 0.5
    eps = share * rms * (1 if norm == "linf" else free.sum() ** 0.5)
    centre = kspace[0].numpy()
    around = box(centre, free, eps)
    if norm == "l2":
        around = InputSet(around.low, around.high, centre, eps)
    output = network(kspace)
    reference = output + 0.1 * output.std() * torch.from_numpy(drawn(*output.shape, seed=4))
    found = error_limits(lowered(network, kspace).network, around, reference[0].numpy())
    power, worst = float(reference.square().sum()), int((output - reference).norm(dim=1).argmax())
    errors = torch.cat(
        [
            ascended(network, around, reference, lambda error: error.square().sum()),
            ascended(network, around, reference, lambda error: -error.square().sum()),
            ascended(
                network, around, reference, lambda error: error.norm(dim=1).flatten()[worst]
            ),
        ]
    )  # fmt: skip
    nmse = errors.square().flatten(1).sum(1) / power
    assert found.nmse[0] <= float(nmse.min())
    assert float(nmse.max()) <= found.nmse[1] <= float(nmse.max()) * closeness
    largest = float(errors.norm(dim=1).max())
    assert largest <= found.worst_pixel <= largest * closeness
    images = (errors + reference).numpy()
    assert (images >= found.low - 1e-9).all()
    assert (images <= found.high + 1e-9).all()
    decibels = PsnrComplex()(errors + reference, reference.expand_as(errors))
    assert found.psnr[0] <= float(decibels.min())
    assert float(decibels.max()) <= found.psnr[1]
    scored = NmseComplex()(errors + reference, reference.expand_as(errors))
    assert float(scored.max()) <= found.nmse[1]


def test_the_checker_derives_the_claims_again_and_refuses_closer_ones():
    network, kspace, mask = cascade(4)
    free = mask.expand(2, -1, -1).numpy().astype(np.float64)
    around = box(kspace[0].numpy(), free, 0.01)
    found = change_limits(lowered(network, kspace).network, around)
    limits = check(found.network, found.proof)
    assert len(limits) == 4 * found.low.size  # of the image and of what is not linear, each way
    assert (limits >= found.proof.claims.limits).all()
    found.proof.claims.limits[5] += 1e-3
    with pytest.raises(IntegrityError):
        check(found.network, found.proof)


def test_a_refined_image_keeps_to_its_limits():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = espcn(preset="small", factors=(2, 1, 1)).double().eval()
        torch.nn.init.normal_(network.third.weight, std=0.05)
    image = torch.rand(1, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    written = lowered(network.fixed(2), image).network
    around = box(image[0].numpy(), np.ones(image.shape[1:]), 0.01)
    reference = torch.from_numpy(np.abs(drawn(1, 4, 4, 4)))
    found = error_limits(written, around, reference.numpy())
    stream = torch.Generator().manual_seed(2)
    for sign in (-1, 1):
        corner = image + 0.01 * torch.rand(image.shape, generator=stream).round() * sign
        with torch.no_grad():
            output = network(corner)
        error = output[0] - reference
        assert float(error.square().sum()) <= found.energy[1]
        assert float(error.abs().max()) <= found.worst_pixel
        decibels = float(Psnr()(output, reference[None]))
        assert found.psnr[0] <= decibels <= found.psnr[1]


def test_a_change_is_nothing_where_nothing_may_change():
    network, _ = zero_filled()
    point = drawn(2, SIDE, SIDE)
    found = change_limits(network, InputSet(point, point.copy()))
    assert 0 <= found.worst_pixel < 1e-7
    assert 0 <= found.energy[0] <= found.energy[1] < 1e-12


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9), (30, 30)])
def test_a_stretch_is_the_largest_singular_value_rounded_upwards(shape):
    matrix = drawn(*shape)
    true = np.linalg.svd(matrix)[1][0]
    assert true <= stretch(matrix) <= true * (1 + 1e-9)
    assert stretch(np.ones(shape)) >= math.sqrt(shape[0] * shape[1])
    assert stretch(np.zeros(shape)) == 0


def test_a_reference_that_is_nothing_has_no_relative_error():
    network, _ = zero_filled()
    point = drawn(2, SIDE, SIDE)
    found = error_limits(network, box(point, np.ones(point.shape), 0.1), np.zeros(point.shape))
    assert np.isnan(found.nmse).all()
    assert np.isnan(found.psnr).all()


def test_what_does_not_fit_is_refused_with_a_line():
    network, _ = zero_filled()
    point = drawn(2, SIDE, SIDE)
    around = box(point, np.ones(point.shape), 0.1)
    with pytest.raises(InputError, match=r"reference must be finite.*1 values that are not"):
        error_limits(network, around, np.where(np.arange(72).reshape(point.shape) == 3, np.nan, 1))
    with pytest.raises(InputError, match="reference must be"):
        error_limits(network, around, point[:1])
    with pytest.raises(InputError, match="region must be flags"):
        error_limits(network, around, point, region=np.zeros((SIDE, SIDE), dtype=bool))
    with pytest.raises(InputError, match="upto must be ibp"):
        error_limits(network, around, point, upto="alpha_crown")
