"""SynNet and LI-Net: labels from k-space, slices and whole patients."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med.cases import stack
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.linet import LiNet, linet
from robustbench_med.networks.synnet import synnet

MADE = runpy.run_path(str(Path(__file__).with_name("networks_fixture.py")))
GRID = {"size": 32, "pixel_mm": 4.5}
SIZES = {"synnet": {}, "linet": {"size": (32, 32)}}
each = pytest.mark.parametrize("name", SIZES)


def cohort(task="kspace_segmentation", **settings):
    return build("cohorts", "synthetic_cine", task=task, **(GRID | {"patients": 1} | settings))


def built(name, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("networks", name, preset="small", **(SIZES[name] | settings)).eval()


def without(context, key):
    return {name: value for name, value in context.items() if name != key}


def zero_filled(case):
    kspace = torch.complex(*case.image)
    image = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace), norm="ortho"))
    return torch.view_as_real(image).movedim(-1, 0)[None]


def test_presets_have_their_parameters_and_differ_in_widths_and_depth_only():
    with torch.device("meta"):
        syn, small_syn = synnet(), synnet(preset="small")
        # A U-Net has 31,030,658 for one channel and two classes; here it is two and four.
        assert MADE["parameters"](syn) == 31_030_658 + 64 * 9 + 2 * 65 == 31_031_364
        assert MADE["parameters"](small_syn) == 481_940
        line, small_line = linet(), linet(preset="small")
        assert MADE["parameters"](line) == 2_935_172
        assert MADE["parameters"](small_line) == 644_484
        assert MADE["parameters"](linet(preset="small", size=(64, 64))) * 4 < 2e6
    for full, small in ((syn, small_syn), (line, small_line)):
        assert {type(module) for module in full.modules()} == {
            type(module) for module in small.modules()
        }


@each
def test_the_full_preset_goes_forward_and_backward_at_96_pixels(name):
    with torch.device("meta"):
        network = build("networks", name)
        kspace = torch.zeros(1, 2, 96, 96)
        logits = network(kspace, {"mask": torch.zeros(1, 1, 96, 96)})
        logits.sum().backward()
    assert logits.shape == (1, 4, 96, 96)
    trained = {"synnet": [""], "linet": ["decoder", "predictor"]}[name]
    for own, weights in network.named_parameters():
        assert (weights.grad is not None) == own.startswith(tuple(trained))


def test_linet_is_convolutions_with_stride_and_relu_only():
    kinds = {type(m) for m in linet(size=(32, 32), preset="small").modules() if not [*m.children()]}
    assert kinds <= {nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.Flatten,
                     type(linet(size=(32, 32)).decoder[2])}  # fmt: skip


@each
def test_what_answers_is_the_zero_filled_image_of_each_slice(name):
    case, network = cohort().cases[2], built(name)
    inner = network.segmentation if name == "synnet" else nn.Sequential(
        network.predictor, network.decoder
    )  # fmt: skip
    batch = stack([case])
    with torch.no_grad():
        torch.testing.assert_close(
            network(batch.image, batch.context), inner(zero_filled(case)), atol=1e-4, rtol=1e-4
        )


@each
@pytest.mark.parametrize("coils", [1, 2])
def test_a_whole_patient_is_answered_slice_by_slice(name, coils):
    patient, network = stack([cohort("chain", coils=coils).cases[0]]), built(name)
    with torch.no_grad():
        logits = network(patient.image, patient.context)
        assert logits.shape == (1, 4, *patient.target.shape[1:])
        for phase, z in ((0, 1), (1, 0)):
            alone = {key: patient.context[key][:, :, phase, z] for key in ("mask", "maps")
                     if key in patient.context}  # fmt: skip
            one = network(patient.image[:, :, phase, z], alone)
            torch.testing.assert_close(logits[:, :, phase, z], one, atol=1e-5, rtol=1e-4)


@each
def test_the_fully_sampled_image_is_not_read(name):
    batch, network = stack([cohort().cases[0]]), built(name)
    with torch.no_grad():
        plain = network(batch.image, batch.context)
        moved = {**batch.context, "full": batch.context["full"] + 1}
        assert torch.equal(network(batch.image, moved), plain)
        assert torch.equal(network(batch.image, without(batch.context, "full")), plain)


@each
def test_what_was_not_measured_is_not_looked_at(name):
    batch, network = stack([cohort().cases[0]]), built(name)
    altered = batch.image + (1 - batch.context["mask"])
    torch.testing.assert_close(network(altered, batch.context), network(batch.image, batch.context))


@each
def test_a_case_is_answered_the_same_in_any_batch(name):
    cases = cohort(lines=[1, 4, 16]).cases
    both, alone = stack([cases[0], cases[3]]), stack([cases[3]])
    network = built(name)
    torch.testing.assert_close(
        network(both.image, both.context)[1:], network(alone.image, alone.context),
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip


@each
def test_gradients_reach_the_measured_kspace_and_no_other(name):
    batch, network = stack([cohort().cases[0]]), built(name)
    image = batch.image.requires_grad_()
    network(image, batch.context).square().sum().backward()
    assert (image.grad * (1 - batch.context["mask"]) == 0).all()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0


def test_the_norm_of_synnet_is_the_u_nets():
    kinds = {norm: {type(m) for m in built("synnet", norm=norm).modules()}
             for norm in ("none", "batch", "group")}  # fmt: skip
    assert nn.BatchNorm2d in kinds["batch"] - kinds["none"]
    assert nn.GroupNorm in kinds["group"] - kinds["none"]


def test_synnet_learns_by_the_tasks_own_loss_over_drawn_lines(tmp_path):
    slices = cohort(slices=2, lines=[1, 4, 16])
    first, last = MADE["learns"](synnet, tmp_path, slices)
    assert last < first


@pytest.mark.parametrize("name", ["synnet", "linet"])
def test_weights_of_slices_answer_for_whole_patients(name, tmp_path):
    from robustbench_med.models import build_network, load_model, save_model
    from robustbench_med.training.settings import TrainSettings

    entry = {"use": name, "preset": "small", "weights": "net.safetensors"}
    slices = cohort()
    network = build_network(entry, slices, seed=3)
    save_model(tmp_path / "net.safetensors", entry, network, slices, TrainSettings(), [])
    patients = cohort("chain", population="acdc")
    model = load_model(entry, cohort=patients, folder=tmp_path)
    batch = stack([patients.cases[0]])
    with torch.no_grad():
        assert torch.equal(model(batch.image, batch.context),
                           network.eval()(batch.image, batch.context))  # fmt: skip


def test_linet_with_fixed_lines_computes_the_same_and_can_be_bounded():
    case = cohort(lines=6, centre_lines=4).cases[1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LiNet((4, 6, 6, 6), 4, (32, 32), 6).eval()
    kspace, mask = case.image[None], case.context["mask"]
    fixed = network.fixed(mask)
    with torch.no_grad():
        torch.testing.assert_close(
            fixed(kspace), network(kspace, {"mask": mask[None]}), atol=1e-4, rtol=1e-4
        )
    room = 2e-4 * mask
    rows = torch.eye(4 * 32 * 32)[torch.arange(600, 4096, 700)]
    lower, upper = rb.bound(fixed, kspace - room, kspace + room, rows, method="crown")
    generator = torch.Generator().manual_seed(0)
    noise = 2 * torch.rand(200, *kspace.shape[1:], generator=generator) - 1
    with torch.no_grad():
        found = fixed(kspace + room * noise.sign()).flatten(1) @ rows.T
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()
    # Sampling finds a good part of what the bounds allow: they are not merely true.
    assert ((found.amax(0) - found.amin(0)) / (upper - lower)).min() > 0.05


@pytest.mark.parametrize(
    ("builder", "settings", "message"),
    [
        (synnet, {"preset": "tiny"}, "full, small, got 'tiny'"),
        (synnet, {"in_channels": 1}, "even, two for each coil, got 1"),
        (synnet, {"classes": 0}, "at least 1"),
        (linet, {"preset": "tiny"}, "full, small, got 'tiny'"),
        (linet, {"in_channels": 3}, "even, two for each coil, got 3"),
        (linet, {"classes": 1}, "classes must be at least 2"),
        (linet, {"code": 0}, "code at least 1"),
        (linet, {"size": (40, 32)}, "multiples of 16"),
    ],
)
def test_wrong_settings_are_refused(builder, settings, message):
    with pytest.raises(InputError, match=message):
        builder(**settings)


@each
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, r"expected a mask \(b, 1, \*s, h, w\) in the context .* got none"),
        ({"mask": torch.ones(1, 1, 8, 8)}, r"got \(1, 1, 8, 8\)"),
        ({"mask": torch.zeros(1, 1, 32, 32)}, "no sampled line"),
        ({"maps": None}, "needs mask and maps for 2 coils"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(name, change, message):
    batch = stack([cohort(coils=2).cases[0]])
    context = {k: v for k, v in {**batch.context, **change}.items() if v is not None}
    with pytest.raises(InputError, match=f"{name}: .*{message}"):
        built(name)(batch.image, context)


def test_slices_of_another_size_are_refused():
    batch = stack([cohort(size=[32, 48]).cases[0]])
    with pytest.raises(InputError, match="built for slices of 32 x 32"):
        built("linet")(batch.image, batch.context)
    assert isinstance(built("linet"), LiNet)
    batch = stack([cohort(size=[36, 36]).cases[0]])
    with pytest.raises(InputError, match="multiples of 8"):
        built("synnet")(batch.image, batch.context)
