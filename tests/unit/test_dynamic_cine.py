"""Slices over the cycle: one scale, a mask for each frame, and strips along the readout."""

import pytest
import torch

import robustbench_med as rb
from robustbench_med.cases import stack
from robustbench_med.cohorts.cine_frame import Made
from robustbench_med.cohorts.dynamic_cine import readout_strip
from robustbench_med.errors import InputError
from robustbench_med.networks.consistency import consistent
from robustbench_med.networks.measured import measured_frames
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import to_channels, to_complex

SMALL = {"patients": 2, "size": 72, "pixel_mm": 2.2, "slices": 2}
COILS = pytest.mark.parametrize("coils", [1, 3])


def cohort(task="dynamic", **settings):
    return rb.build("cohorts", "synthetic_cine", **(SMALL | {"frames": 4} | settings), task=task)


@COILS
def test_a_case_is_the_frames_of_a_slice_with_masks_of_their_own(coils):
    found = cohort(coils=coils, acceleration=3, centre_lines=6)
    assert len(found) == 4
    assert found.task == rb.Task("reconstruction")
    case = found.cases[1]
    assert case.image.shape == (2 * coils, 4, 72, 72)
    assert case.target.shape == (2, 4, 72, 72)
    mask = case.context["mask"]
    assert mask.shape == (1, 4, 72, 72)
    assert (mask.sum(dim=2)[0] == 24).all()
    assert (mask[0, :, 33:39] == 1).all()
    assert len({tuple(frame[:, 0].tolist()) for frame in mask[0]}) == 4
    assert (case.image * (1 - mask) == 0).all()
    assert case.attributes.keys() >= {"z", "vendor"}
    assert "phase" not in case.attributes
    assert case.case_id.endswith(f"-z{case.attributes['z']:02}")
    if coils > 1:
        assert case.context["maps"].shape == (2 * coils, 1, 72, 72)
    else:
        assert "maps" not in case.context


@COILS
def test_its_frames_are_the_cases_of_reconstruction_but_for_one_scale(coils):
    whole, alone = cohort(coils=coils).cases, cohort("reconstruction", coils=coils).cases
    case = whole[0]
    frames = [one for one in alone if one.case_id.endswith(case.case_id[-4:])][:4]
    assert [one.attributes["phase"] for one in frames] == ["t00", "t01", "t02", "t03"]
    size = case.target.square().sum(dim=0).sqrt()
    assert size.flatten().quantile(0.99).item() == pytest.approx(1, abs=1e-4)
    for number, one in enumerate(frames):
        ratio = (case.context["noise"] / one.context["noise"]).item()
        torch.testing.assert_close(case.target[:, number], one.target * ratio)
        torch.testing.assert_close(case.image[:, number], one.image * ratio)
        assert torch.equal(case.context["mask"][:, number], one.context["mask"])
        if coils > 1:
            assert torch.equal(case.context["maps"][:, 0], one.context["maps"])


def test_a_cycle_is_twelve_frames_unless_told_otherwise():
    case = rb.build("cohorts", "synthetic_cine", task="dynamic", **SMALL).cases[0]
    assert case.image.shape == (2, 12, 72, 72)
    assert cohort("segmentation", frames=None).cases[0].attributes["phase"] == "ED"


def parts(strip, coils, **settings):
    """A whole case, and its strips, stacked."""
    whole = stack([cohort(coils=coils, **settings).cases[0]])
    found = cohort(coils=coils, strip=strip, **settings).cases
    strips = [stack([found[number]]) for number in range(72 // strip)]
    assert all(one.case_ids[0].startswith(whole.case_ids[0]) for one in strips)
    return whole, strips


def glued(strips):
    return torch.cat(strips, dim=-1)


@COILS
@pytest.mark.parametrize("strip", [8, 9, 36])
def test_operators_on_a_strip_are_the_strip_of_the_operators(coils, strip):
    whole, strips = parts(strip, coils)
    assert torch.equal(glued([one.target for one in strips]), whole.target)
    stream = torch.Generator().manual_seed(0)
    guess = torch.randn(whole.target.shape, generator=stream)
    settings = [measured_frames("x", each.image, each.context) for each in (whole, *strips)]
    seen = adjoint(*settings[0])
    torch.testing.assert_close(
        glued([adjoint(*one) for one in settings[1:]]), seen, atol=1e-5, rtol=0
    )
    for weight in (1.0, 0.3):
        expected = consistent(guess, *settings[0], weight)
        found = [
            consistent(guess[..., strip * i : strip * (i + 1)], *one, weight)
            for i, one in enumerate(settings[1:])
        ]
        torch.testing.assert_close(glued(found), expected, atol=1e-5, rtol=0)


@COILS
def test_a_strip_is_the_measurement_of_its_images_and_keeps_the_noise(coils):
    whole, strips = parts(24, coils, acceleration=1, fields=[0.55])
    for one in strips:
        kspace, maps, mask = measured_frames("x", one.image, one.context)
        noise = to_channels(kspace - forward(to_complex(one.target)[:, 0], maps, mask))
        expected = one.context["noise"].item()
        assert noise.std().item() == pytest.approx(expected, rel=4 / (2 * noise.numel()) ** 0.5)
    assert torch.equal(strips[0].context["noise"], whole.context["noise"])


@pytest.mark.parametrize("name", ["zero_filled", "deep_cascade"])
def test_without_convolutions_a_network_answers_for_a_strip_as_for_the_whole(name):
    whole, strips = parts(24, 1)
    network = rb.build("networks", name)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        found = [network(one.image, one.context) for one in strips]
        expected = network(whole.image, whole.context)
    torch.testing.assert_close(glued(found), expected, atol=1e-5, rtol=0)


def test_a_strip_may_lie_anywhere():
    case = cohort().cases[0]
    made = Made(case.image, case.target, case.context)
    image, target, context = readout_strip(made, 5, 11)
    assert torch.equal(target, case.target[..., 5:16])
    back = adjoint(to_complex(image[None]), None, context["mask"][None])
    all_of_it = adjoint(to_complex(case.image[None]), None, case.context["mask"][None])
    torch.testing.assert_close(back, all_of_it[..., 5:16], atol=1e-5, rtol=0)


def test_columns_that_the_strips_do_not_divide_are_refused():
    with pytest.raises(InputError, match="strip: expected a divisor of the 72 columns, got 10"):
        cohort(strip=10)
    with pytest.raises(InputError, match="strip: expected a whole number, at least 1, got 0"):
        cohort(strip=0)
    with pytest.raises(InputError, match="strip: the task 'reconstruction' does not use it"):
        cohort("reconstruction", strip=24)


def test_kspace_probes_run_on_it():
    found = cohort(coils=2, patients=1)
    model = rb.TorchModel(rb.build("networks", "zero_filled"), found.task, found.bounds)
    metrics = {n: rb.build("metrics", n) for n in ("nmse_complex", "psnr_complex", "ssim")}
    ball = rb.Ball("l2", 0.05, unit="fraction", support="mask")
    probes = [
        rb.clean(metrics),
        rb.attacked("pgd", rb.build("attacks", "pgd", steps=2), ball, metrics),
        *(
            rb.shifted(name, rb.build("shifts", name), 1.0, metrics)
            for name in ("acceleration", "kspace_noise", "motion", "resolution")
        ),
    ]
    values = {}
    for record in rb.evaluate(model, found, probes):
        values.setdefault((record.probe, record.metric), []).append(record.value)
    names = {"clean", *(key[0] for key in values)}
    assert len(names) == 6
    for name in names - {"clean"}:
        assert values[name, "nmse_complex"] != values["clean", "nmse_complex"], name
        assert all(torch.tensor(values[name, metric]).isfinite().all() for metric in metrics)
    (attack,) = (name for name in names if name.startswith("pgd"))
    pairs = zip(values["clean", "nmse_complex"], values[attack, "nmse_complex"], strict=True)
    assert all(worse > clean for clean, worse in pairs)


def test_metrics_of_magnitudes_read_a_series_as_one_complex_image():
    case = stack([cohort(coils=2, patients=1).cases[0]])
    output = rb.build("networks", "zero_filled")(case.image, case.context)
    sizes = [torch.hypot(*image.unbind(dim=1)) for image in (output, case.target)]
    for name in ("nmse", "psnr", "ssim"):
        metric = rb.build("metrics", name)
        torch.testing.assert_close(metric(output, case.target), metric(*sizes), rtol=1e-5, atol=0)
