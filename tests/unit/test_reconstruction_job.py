"""Reconstruction from cases to records: trained, saved, loaded, attacked in k-space."""

from pathlib import Path

import pytest
import torch

import robustbench_med as rb
from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.errors import InputError
from robustbench_med.models import build_network, load_model, save_model
from robustbench_med.physics.coils import forward, sensitivities
from robustbench_med.physics.fourier import to_channels
from robustbench_med.physics.sampling import cartesian_mask
from robustbench_med.plan import parse_plan
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

SIZE = 24
BALL = rb.Ball("l2", 0.05, unit="fraction", support="mask")
BASELINES = [{"use": "zero_filled"}, {"use": "total_variation", "lam": 0.02, "iterations": 20}]


def discs_case(number, coils):
    generator = torch.Generator().manual_seed(number)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    image = torch.zeros(SIZE, SIZE)
    for _ in range(4):
        row, column, radius, level = torch.rand(4, generator=generator).tolist()
        inside = (y - row + 0.5) ** 2 + (x - column + 0.5) ** 2 < (0.2 + 0.4 * radius) ** 2
        image[inside] = level
    image = torch.polar(image, 0.5 * x)
    lines = cartesian_mask(SIZE, 3, 4, generator).float()
    mask = lines[:, None].repeat(1, SIZE)[None]
    maps = sensitivities(coils, (SIZE, SIZE), 8.0) if coils > 1 else None
    kspace = forward(image[None], None if maps is None else maps[None], mask[None])
    context = {"mask": mask} | ({} if maps is None else {"maps": to_channels(maps[None])[0]})
    target = to_channels(image[None, None])[0]
    return Case(f"c{number}", f"p{number}", to_channels(kspace)[0], target, context)


def discs_cohort(cases=6, coils=1, first=0):
    cases = [discs_case(first + number, coils) for number in range(cases)]
    return Cohort("discs", Task("reconstruction"), (-torch.inf, torch.inf), cases)


@pytest.mark.parametrize("coils", [1, 2])
def test_a_small_cascade_learns_survives_saving_and_is_attacked(tmp_path, coils):
    cohort, entry = discs_cohort(coils=coils), {"use": "deep_cascade", "preset": "small"}
    network = build_network(entry, cohort)
    settings = TrainSettings(epochs=8, batch_size=3, learning_rate=2e-3)
    curve = train(network, cohort, settings, folder=tmp_path / "checkpoint")
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]

    save_model(tmp_path / "net.safetensors", entry, network, cohort, settings, curve)
    entry["weights"] = "net.safetensors"
    model = load_model(entry, cohort=cohort, folder=tmp_path)
    batch = next(cohort.batches(6))
    assert torch.equal(model(batch.image, batch.context), network(batch.image, batch.context))

    metrics = {"nmse": rb.build("metrics", "nmse")}
    pgd = rb.build("attacks", "pgd", steps=5)
    probes = [rb.clean(metrics), rb.attacked("pgd", pgd, BALL, metrics)]
    records = list(rb.evaluate(model, cohort, probes, batch_size=3))
    clean, attacked = ([r.value for r in records if r.kind == k] for k in ("clean", "attack"))
    assert len(clean) == len(attacked) == 6
    assert all(worse > better for better, worse in zip(clean, attacked, strict=True))


@pytest.mark.parametrize("entry", [*BASELINES, {"use": "deep_cascade", "preset": "small"}])
@pytest.mark.parametrize("coils", [1, 3])
def test_an_attack_changes_measured_samples_only_and_stays_in_its_ball(entry, coils):
    cohort = discs_cohort(2, coils)
    model = rb.TorchModel(build_network(entry, cohort), cohort.task, cohort.bounds)
    batch = next(cohort.batches(2))
    rng = rb.CaseRng(0, "pgd", batch.case_ids)
    found = rb.build("attacks", "pgd", steps=3)(model, batch, BALL, rng)
    change = BALL.project(found, batch.image, batch.context) - batch.image
    assert change.abs().flatten(1).amax(1).min() > 0
    assert (change[(batch.context["mask"] == 0).expand_as(change)] == 0).all()
    length = change.flatten(1).norm(dim=1)
    assert (length <= 0.05 * batch.image.flatten(1).norm(dim=1) * (1 + 1e-5)).all()
    before, after = (
        cohort.task.loss(model(image, batch.context), batch.target)
        for image in (batch.image, batch.image + change)
    )
    assert (after > before).all()


@pytest.mark.parametrize("entry", BASELINES)
def test_a_baseline_needs_no_weights(entry):
    cohort = discs_cohort(2)
    model = load_model(entry, cohort=cohort)
    batch = next(cohort.batches(2))
    assert model.task == cohort.task
    assert model.bounds == cohort.bounds
    assert model(batch.image, batch.context).shape == batch.target.shape
    with pytest.raises(InputError, match="task and bounds are not known; give a cohort"):
        load_model(entry)


def test_total_variation_is_closer_to_the_truth_than_the_zero_filled_image():
    cohort = discs_cohort(4)
    metrics = {"nmse": rb.build("metrics", "nmse_complex")}
    zero, sparse = (
        [r.value for r in rb.evaluate(load_model(e, cohort=cohort), cohort, [rb.clean(metrics)])]
        for e in BASELINES
    )
    assert all(better < worse for better, worse in zip(sparse, zero, strict=True))


def test_a_network_with_parameters_still_needs_its_weights():
    with pytest.raises(InputError, match=r"expected weights = FILE; train it with: rbmed train"):
        load_model({"use": "deep_cascade", "preset": "small"}, cohort=discs_cohort(1))
    with pytest.raises(InputError, match=r"'zero_filled': expected weights = FILE"):
        load_model({"use": "zero_filled", "weights": 3}, cohort=discs_cohort(1))


def test_what_has_no_parameters_cannot_be_trained(tmp_path):
    cohort = discs_cohort(1)
    with pytest.raises(InputError, match=r"no parameters; leave \[train\] and weights out"):
        train(build_network(BASELINES[0], cohort), cohort, TrainSettings(), folder=tmp_path)


def test_kspace_is_not_mirrored(tmp_path):
    cohort, settings = discs_cohort(1), TrainSettings(augment="flip")
    network = build_network({"use": "deep_cascade", "preset": "small"}, cohort)
    with pytest.raises(InputError, match=r"'flip' is for .*, got reconstruction"):
        train(network, cohort, settings, folder=tmp_path)


def test_a_plan_may_set_the_noise_weight_and_the_baselines_settings():
    for model in (
        {"use": "deep_cascade", "noise_weight": 5.0, "weights": "a.safetensors"},
        *BASELINES,
    ):
        raw = {"name": "x", "cohort": {"use": "a:b"}, "model": model}
        with pytest.raises(InputError) as refused:
            parse_plan(raw, Path("plan.toml"))
        assert "model" not in str(refused.value)
