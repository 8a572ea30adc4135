"""Two networks as one, from k-space to labels."""

import pytest
import torch

import robustbench_med as rb
from robustbench_med.cases import stack
from robustbench_med.models import build_network, load_model, network_settings, save_model
from robustbench_med.networks import pipeline
from robustbench_med.physics.display import to_unit
from robustbench_med.plan import parse_plan
from robustbench_med.streams import CaseRng
from robustbench_med.training.loop import train
from robustbench_med.training.network import card_settings
from robustbench_med.training.settings import TrainSettings

SMALL = {"size": 72, "pixel_mm": 2.0}


def cohort(task, patients=1):
    return rb.build("cohorts", "synthetic_cine", task=task, population="acdc",
                    patients=patients, **SMALL)  # fmt: skip


def unet():
    torch.manual_seed(0)
    return rb.build("networks", "unet", preset="small", classes=4).eval()


def test_it_answers_as_its_parts_do_one_after_the_other_on_each_slice():
    case, segment = cohort("chain").cases[0], unet()
    joined = pipeline.pipeline(
        reconstruction=rb.build("networks", "zero_filled"), segmentation=segment
    )
    batch = stack([case])
    with torch.no_grad():
        logits = joined(batch.image, batch.context)
        for phase, z in ((0, 0), (1, 3)):
            kspace = torch.complex(*case.image[:, phase, z])
            image = torch.fft.fftshift(
                torch.fft.ifft2(torch.fft.ifftshift(kspace), norm="ortho")
            ).abs()
            alone = segment(to_unit(image[None])[None])[0]
            torch.testing.assert_close(logits[0, :, phase, z], alone, atol=1e-4, rtol=1e-4)
    assert logits.shape == (1, 4, *case.target.shape)


def test_each_image_is_scaled_by_its_own_brightest_pixels():
    images = torch.rand(3, 20, 24) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    for image, scaled in zip(images, to_unit(images), strict=True):
        brightest = image.flatten().sort().values[int(0.995 * image.numel()) - 1]
        torch.testing.assert_close(scaled, (image / brightest).clamp(max=1))


def test_an_attack_on_kspace_reaches_the_labels_and_keeps_to_what_was_acquired():
    model = rb.TorchModel(
        pipeline.pipeline(reconstruction=rb.build("networks", "zero_filled"), segmentation=unet()),
        cohort("chain").task,
        (-float("inf"), float("inf")),
    )
    batch = stack([cohort("chain").cases[0]])
    attack = rb.build("attacks", "pgd", steps=2, step_size=0.5, random_start=False)
    ball = rb.Ball("l2", 0.05, unit="fraction", support="mask")
    moved = attack(model, batch, ball, CaseRng(0, "a", batch.case_ids))
    assert torch.equal(moved * (1 - batch.context["mask"]), torch.zeros_like(moved))
    clean, found = (model.task.loss(model(image, batch.context), batch.target)
                    for image in (batch.image, moved))  # fmt: skip
    assert found > clean


def saved(folder, name, network, task):
    entry = {"use": name, "preset": "small"}
    save_model(folder / f"{name}.safetensors", entry, network, cohort(task), TrainSettings(), [])
    return {"use": name, "weights": f"{name}.safetensors"}


def test_a_plan_names_each_part_with_its_own_weights(tmp_path):
    segment = unet()
    entry = {
        "use": "pipeline",
        "reconstruction": {"use": "total_variation", "iterations": 3},
        "segmentation": saved(tmp_path, "unet", segment, "segmentation"),
    }
    model = load_model(entry, cohort=cohort("chain"), folder=tmp_path)
    assert isinstance(model, rb.TorchModel)
    found = model.network.segmentation.state_dict()
    for name, value in segment.state_dict().items():
        assert torch.equal(found[name], value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"segmentation": {"use": "unet"}}, "expected weights = FILE"),
        ({"reconstruction": {"use": "deep_cascad", "weights": "x"}}, "did you mean"),
        ({"reconstruction": None}, "reconstruction"),
    ],
)
def test_a_part_that_cannot_be_is_refused_in_one_line(tmp_path, change, line):
    entry = {
        "use": "pipeline",
        "reconstruction": {"use": "zero_filled"},
        "segmentation": saved(tmp_path, "unet", unet(), "segmentation"),
    } | change
    entry = {key: value for key, value in entry.items() if value is not None}
    with pytest.raises((rb.InputError, rb.UnknownNameError), match=line) as refusal:
        load_model(entry, cohort=cohort("chain"), folder=tmp_path)
    assert len(str(refusal.value).splitlines()) == 1


def test_weights_of_other_classes_are_refused(tmp_path):
    entry = {
        "use": "pipeline",
        "reconstruction": {"use": "zero_filled"},
        "segmentation": saved(tmp_path, "unet", unet(), "segmentation"),
    }
    other = rb.Cohort("other", rb.Task("segmentation", ("a", "b", "c", "d")),
                      (-float("inf"), float("inf")), cohort("chain").cases)  # fmt: skip
    with pytest.raises(rb.InputError, match="trained for"):
        load_model(entry, cohort=other, folder=tmp_path)


def test_kspace_without_a_mask_is_refused():
    joined = pipeline.pipeline(
        reconstruction=rb.build("networks", "zero_filled"), segmentation=unet()
    )
    with pytest.raises(rb.InputError, match="expected a mask"):
        joined(torch.zeros(1, 2, 2, 3, 64, 64), {"mask": torch.ones(1, 1, 64, 64)})


def written(folder):
    """Both stages as `rbmed train` leaves them, and the model table of both joined."""
    for name, task in (("deep_cascade", "reconstruction"), ("unet", "segmentation")):
        found = cohort(task)
        entry = {"use": name, "preset": "small"}
        network = build_network(entry, found, seed=5)
        save_model(folder / f"{name}.safetensors", entry, network, found, TrainSettings(), [])
    return {
        "use": "pipeline",
        "weights": "tuned.safetensors",
        "reconstruction": {
            "use": "deep_cascade",
            "weights": str(folder / "deep_cascade.safetensors"),
        },
        "segmentation": {"use": "unet", "weights": str(folder / "unet.safetensors")},
    }


def test_training_starts_from_the_weights_of_the_parts(tmp_path):
    entry, patients = written(tmp_path), cohort("chain")
    network = build_network(entry, patients)
    untuned = load_model({k: v for k, v in entry.items() if k != "weights"}, cohort=patients)
    for name, value in untuned.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_a_pipeline_is_tuned_end_to_end_kept_and_loaded(tmp_path):
    entry, patients = written(tmp_path), cohort("chain", 2)
    network = build_network(entry, patients)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = TrainSettings(epochs=2, batch_size=2, loss={"use": "measure_ce"}, learning_rate=1e-3)
    curve = train(network, patients, settings, folder=tmp_path / "checkpoint")
    assert curve[1]["loss"] < curve[0]["loss"]
    changed = {name.split(".")[0] for name, value in network.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"reconstruction", "segmentation"}
    card = save_model(tmp_path / "tuned.safetensors", entry, network, patients, settings, curve)
    assert card.settings == network_settings(entry, patients) == card_settings(card)
    assert card.settings["segmentation"]["preset"] == "small"
    assert card.settings["segmentation"]["weights"].keys() == {"file", "sha256"}
    assert str(tmp_path) not in (tmp_path / "tuned.json").read_text()
    batch = stack([patients.cases[0]])
    # The parts' own files are no longer needed.
    for name in ("deep_cascade", "unet"):
        (tmp_path / f"{name}.safetensors").unlink()
    model = load_model(entry, cohort=patients, folder=tmp_path)
    with torch.no_grad():
        assert torch.equal(model(batch.image, batch.context), network(batch.image, batch.context))


def test_other_weights_of_a_part_are_another_training(tmp_path):
    entry, patients = written(tmp_path), cohort("chain")
    before = network_settings(entry, patients)
    assert network_settings(entry, patients) == before
    found = cohort("segmentation")
    other = {"use": "unet", "preset": "small"}
    network = build_network(other, found, seed=6)
    save_model(tmp_path / "unet.safetensors", other, network, found, TrainSettings(), [])
    assert network_settings(entry, patients) != before


def test_a_part_without_weights_starts_fresh(tmp_path):
    entry, patients = written(tmp_path), cohort("chain")
    entry["segmentation"] = {"use": "unet", "preset": "small", "classes": 4}
    one, same, other = (build_network(entry, patients, seed=seed) for seed in (1, 1, 2))
    weights = [n.segmentation.head.weight for n in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(*(n.reconstruction.blocks[0][0].weight for n in (one, other)))


def test_a_tuned_pipeline_of_other_parts_is_refused(tmp_path):
    entry, patients = written(tmp_path), cohort("chain")
    network = build_network(entry, patients)
    save_model(tmp_path / "tuned.safetensors", entry, network, patients, TrainSettings(), [])
    other = entry | {"reconstruction": {"use": "zero_filled"}}
    with pytest.raises(rb.InputError, match="'zero_filled' in the plan, 'deep_cascade' in the mod"):
        load_model(other, cohort=patients, folder=tmp_path)
    other = entry | {"segmentation": {"use": "unet", "preset": "full"}}
    with pytest.raises(rb.InputError, match=r"segmentation\.preset is 'full' in the plan, 'small'"):
        load_model(other, cohort=patients, folder=tmp_path)


def test_a_plan_finds_the_weights_of_parts_beside_itself(tmp_path):
    raw = {
        "name": "x",
        "cohort": {"use": "synthetic_cine", "task": "chain"},
        "model": written(tmp_path)
        | {"segmentation": {"use": "unet", "weights": "unet.safetensors"}},
    }
    found = parse_plan(raw, tmp_path / "plan.toml").model
    assert found["segmentation"]["weights"] == str(tmp_path / "unet.safetensors")
    assert found["weights"] == "tuned.safetensors"
