"""Rendering, smooth fields and the measurement against sums, closed forms and statistics."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.physics.fields import SmoothField, smooth_field
from robustbench_med.physics.fourier import ifft2c
from robustbench_med.physics.heart import shape_at
from robustbench_med.physics.imaging import Scan, coil_maps, measure_kspace
from robustbench_med.physics.patient import stream
from robustbench_med.physics.population import Population, draw_patient
from robustbench_med.physics.rendering import TISSUES, Grid, Slab, labels, render
from robustbench_med.physics.scanner import VENDORS, vendor
from robustbench_med.physics.signal import bssfp
from robustbench_med.physics.tissues import tissue

GRID = Grid(96, 96, 2.0)
POPULATION = Population("acdc")
NOISELESS = ("fine", "coarse", "off_resonance", "bias", "phase")


def patient(number=0, **changes):
    return replace(draw_patient(POPULATION, number), **changes)


@pytest.mark.parametrize("number", range(5))
def test_shares_are_shares_of_a_pixel(number):
    some = patient(number)
    for z in (-10.0, 5.0, 45.0, 90.0, 140.0):
        shares, regions = render(some, 0.5, Slab(z, 8.0), GRID)
        assert shares.shape == (len(TISSUES), 96, 96)
        assert regions.shape == (4, 96, 96)
        for values in (shares, regions):
            assert values.min() >= -1e-6
            assert values.max() <= 1 + 1e-6
        assert shares.sum(dim=0).max() <= 1 + 1e-5
        assert regions[:3].sum(dim=0).max() <= 1 + 1e-5
        assert (regions[3] <= regions[0] + 1e-6).all()


def test_above_the_base_and_below_the_apex_there_is_no_heart():
    some = patient()
    lowest = shape_at(some.heart, 0.0).outer_length_mm
    for z in (-4.1, lowest + 4.1):
        shares, regions = render(some, 0.0, Slab(z, 8.0), GRID)
        assert regions.max() == 0
        assert shares[TISSUES.index("myocardium")].max() == 0
        assert (labels(regions) == 0).all()


def test_thin_slices_add_up_to_the_volumes_of_the_heart():
    some = patient(3)
    fine = Grid(192, 192, 1.0)
    totals = sum(
        render(some, 0.0, Slab(z, 1.0), fine)[1].sum(dim=(1, 2)) for z in np.arange(0.5, 140)
    )
    heart = some.heart
    left, wall, right, papillary = (totals / 1000).tolist()
    assert left == pytest.approx(heart.lvedv, rel=5e-3)
    assert wall == pytest.approx(heart.myocardium_ml, rel=5e-3)
    assert right == pytest.approx(heart.rvedv, rel=1e-2)
    assert papillary == pytest.approx(heart.papillary_ml, rel=3e-2)


def test_the_convention_of_papillary_muscles_moves_labels_from_the_cavity_to_the_wall():
    some = patient(0)
    _, regions = render(some, 0.0, Slab(0.45 * some.heart.length_mm, 8.0), Grid(192, 192, 1.0))
    cavity, mass = labels(regions), labels(regions, papillary_in_cavity=False)
    changed = cavity != mass
    assert changed.any()
    assert (cavity[changed] == 1).all()
    assert (mass[changed] == 2).all()
    assert changed.sum().item() == pytest.approx(regions[3].sum().item(), rel=0.1)


def test_the_label_is_the_largest_share():
    shares = torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(0)) / 3
    shares[3] = shares[3].minimum(shares[0])
    shares = (4 * shares).round() / 4  # ties: background before LV before its wall before RV
    background = 1 - shares[:3].sum(dim=0, keepdim=True)
    largest = torch.cat([background, shares[:3]]).numpy().argmax(axis=0)
    assert (labels(shares).numpy() == largest).all()


def test_an_image_smaller_than_the_heart_is_refused_in_one_line():
    with pytest.raises(InputError) as refusal:
        Grid(96, 64, 2.0)
    assert str(refusal.value) == (
        "image of 96 x 64 pixels of 2 mm: 128 mm is smaller than the heart, which needs 140 mm; "
        "raise size or pixel_mm"
    )
    assert Grid(70, 70, 2.0).axes_mm()[0].tolist() == [2 * i - 69 for i in range(70)]


def flat(scan, **values):
    """Make the scan's random fields constant: 0 but for those given."""

    def constant(value):
        return lambda z, y, x: torch.full((len(y), len(x)), float(value))

    vars(scan)["_fields"] = {name: constant(values.get(name, 0)) for name in NOISELESS}
    return scan


@pytest.mark.parametrize("field_t", [0.55, 1.5, 3.0])
@pytest.mark.parametrize("name", TISSUES)
def test_a_tissue_is_as_bright_as_the_steady_state_says(name, field_t):
    known, protocol = tissue(name, field_t), vendor("B")
    scan = flat(Scan(patient(vendor="B", field_t=field_t)))
    shares = torch.zeros(len(TISSUES), 96, 96)
    shares[TISSUES.index(name), :48] = 1
    shares[TISSUES.index(name), 48:] = 0.25
    image = scan.image(shares, Slab(30.0, 8.0), GRID)
    on_resonance = bssfp(
        known.t1_ms, known.t2_ms, known.density,
        flip_deg=protocol.flip_deg, tr_ms=protocol.tr_ms, te_ms=protocol.te_ms,
    ).item()  # fmt: skip
    assert image[0, 0].item() == pytest.approx(on_resonance, rel=1e-5)
    assert image[-1, 0].item() == pytest.approx(on_resonance / 4, rel=1e-5)


@pytest.mark.parametrize("half_span", [-2.0, -0.71, 0.4, 1.13, 2.0, 9.0])
def test_off_resonance_is_that_of_the_steady_state_and_limited(half_span):
    known, protocol = tissue("blood", 3.0), vendor("D")
    hertz = 80.0 * min(max(half_span / 2, -1), 1)
    scan = flat(Scan(patient(vendor="D", field_t=3.0)), off_resonance=half_span)
    shares = torch.zeros(len(TISSUES), 96, 96)
    shares[0] = 1
    expected = bssfp(
        known.t1_ms, known.t2_ms, known.density, off_resonance_hz=hertz,
        flip_deg=protocol.flip_deg, tr_ms=protocol.tr_ms, te_ms=protocol.te_ms,
    ).item()  # fmt: skip
    found = scan.image(shares, Slab(30.0, 8.0), GRID)[10, 10].item()
    assert abs(found - expected) < 1e-3 * abs(expected)


def test_texture_brightens_reception_scales_and_phase_turns():
    shares = torch.zeros(len(TISSUES), 96, 96)
    shares[1] = 1
    slab = Slab(30.0, 8.0)
    bare = flat(Scan(patient(vendor="C"))).image(shares, slab, GRID)[0, 0]
    for values, factor in (
        ({"bias": 1.0}, np.exp(VENDORS["C"].bias)),
        ({"phase": 1.0}, np.exp(0.7j)),
        ({"fine": 1.0, "coarse": 1.0}, 1 + 0.09 * 1.4),
        ({"fine": -99.0}, 0.0),
    ):
        seen = flat(Scan(patient(vendor="C")), **values).image(shares, slab, GRID)[0, 0]
        assert seen.item() == pytest.approx(bare.item() * factor, rel=1e-5)


@pytest.mark.parametrize("field_t", [0.55, 1.5, 3.0])
def test_noise_is_the_bloods_signal_over_the_scanners_ratio(field_t):
    known, protocol = tissue("blood", field_t), vendor("A")
    blood = bssfp(
        known.t1_ms, known.t2_ms, known.density,
        flip_deg=protocol.flip_deg, tr_ms=protocol.tr_ms, te_ms=protocol.te_ms,
    ).abs()  # fmt: skip
    expected = blood.item() / (30 * field_t / 1.5)
    assert Scan(patient(vendor="A", field_t=field_t)).noise == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("coils", [None, 4])
def test_measured_noise_has_the_stated_deviation_in_every_channel(coils):
    generator = torch.Generator().manual_seed(0)
    maps = None if coils is None else coil_maps(coils, GRID)
    image = torch.randn(96, 96, dtype=torch.complex64, generator=generator)
    measured = measure_kspace(image, maps, 0.3, generator)
    without = measure_kspace(image, maps, 0.0, generator)
    assert measured.shape == (coils or 1, 96, 96)
    seen = image[None] if maps is None else maps * image
    assert torch.allclose(ifft2c(without), seen, atol=1e-5)
    noise = torch.view_as_real(measured - without)
    for each in noise:
        for channel in each.unbind(-1):
            assert channel.std().item() == pytest.approx(0.3, rel=4 / (2 * 96**2) ** 0.5)
            assert abs(channel.mean().item()) < 4 * 0.3 / 96
    together = np.corrcoef(noise.movedim(-1, 1).reshape(-1, 96 * 96).numpy())
    assert np.abs(together - np.eye(len(together))).max() < 4.5 / 96


def test_a_smooth_field_is_the_sum_of_its_plane_waves():
    field = smooth_field(stream("waves"), (15.0, 50.0))
    y, x = torch.linspace(-40, 30, 9), torch.linspace(-10, 90, 7)
    waves, phases = field.waves.double().numpy(), field.phases.double().numpy()
    for z in (-20.0, 0.0, 73.5):
        angle = (
            z * waves[:, 0] + phases
            + y.numpy()[:, None, None] * waves[:, 1] + x.numpy()[:, None] * waves[:, 2]
        )  # fmt: skip
        direct = np.sqrt(2 / len(phases)) * np.cos(angle).sum(axis=-1)
        assert field(z, y, x).numpy() == pytest.approx(direct, abs=1e-4)
    lengths = 2 * np.pi / np.linalg.norm(waves, axis=1)
    assert 15 <= lengths.min() < lengths.max() <= 50


def test_a_smooth_field_is_the_same_from_every_grid():
    field = smooth_field(stream("grids"), (4.0, 15.0))
    y, x = torch.arange(40.0) - 20, torch.arange(60.0) - 30
    whole = field(12.0, y, x)
    assert torch.allclose(field(12.0, y[5::7], x[::3]), whole[5::7, ::3], atol=1e-5)


@pytest.mark.parametrize("number", range(4))
def test_a_smooth_field_has_mean_0_and_variance_1_over_space(number):
    field = smooth_field(stream("space", number), (4.0, 15.0))
    along = 1.37 * torch.arange(150.0)
    values = torch.stack([field(3.1 * z, along, along) for z in range(80)])
    assert abs(values.mean().item()) < 0.01
    assert values.var().item() == pytest.approx(1, abs=0.05)


def test_a_field_of_one_wave_is_a_cosine():
    wave = SmoothField(torch.tensor([[0.0, 0.0, 0.5]]), torch.tensor([0.25]))
    x = torch.linspace(-5, 5, 11)
    assert torch.allclose(wave(9.0, torch.zeros(1), x)[0], 2**0.5 * torch.cos(0.5 * x + 0.25))


def test_neighbouring_and_thinner_slices_see_one_anatomy():
    some = patient(4)
    thick, _ = render(some, 0.0, Slab(40.0, 8.0), GRID)
    thin = torch.stack([render(some, 0.0, Slab(z, 2.0), GRID)[0] for z in (37, 39, 41, 43)])
    assert (thick - thin.mean(dim=0)).abs().mean() < 0.01
