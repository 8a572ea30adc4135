"""Series from cases to records: reconstructions trained, saved, loaded and attacked."""

import pytest
import torch

import robustbench_med as rb
from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.models import build_network, load_model, save_model
from robustbench_med.physics.coils import forward, sensitivities
from robustbench_med.physics.fourier import to_channels
from robustbench_med.physics.sampling import cartesian_mask
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

SIZE, FRAMES = 32, 4
BALL = rb.Ball("l2", 0.05, unit="fraction", support="mask")
LEARNED = [
    {"use": "dynamic_cascade", "preset": "small", "distances": [0, 1]},
    {"use": "crnn_mri", "preset": "small"},
    {"use": "deep_cascade", "preset": "small", "noise_weight": 10.0},
    {"use": "fastmri_unet", "preset": "small"},
]
FIXED = [{"use": "zero_filled"}, {"use": "total_variation"}, {"use": "wavelet_l1"}]


def beating_case(number, coils):
    """A disc that grows and shrinks over the frames, each with lines of its own."""
    stream = torch.Generator().manual_seed(number)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    row, column, level = (torch.rand(3, generator=stream) - 0.5).tolist()
    frames = []
    for frame in range(FRAMES):
        radius = 0.5 + 0.15 * torch.cos(torch.tensor(2 * torch.pi * frame / FRAMES))
        image = 0.4 * (x**2 + y**2 < 0.8).float()
        image[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 1 + level
        frames.append(torch.polar(image, 0.5 * x))
    truth = torch.stack(frames)
    lines = [cartesian_mask(SIZE, 3, 4, stream).float() for _ in frames]
    mask = torch.stack(lines)[None, :, :, None].repeat(1, 1, 1, SIZE)
    maps = sensitivities(coils, (SIZE, SIZE), 6.0)[:, None] if coils > 1 else None
    kspace = forward(truth[None], None if maps is None else maps[None], mask[None])
    context = {"mask": mask} | ({} if maps is None else {"maps": to_channels(maps[None])[0]})
    target = to_channels(truth[None, None])[0]
    return Case(f"c{number}", f"p{number}", to_channels(kspace)[0], target, context)


def beating_cohort(cases=3, coils=1):
    made = [beating_case(number, coils) for number in range(cases)]
    return Cohort("beating", Task("reconstruction"), (-torch.inf, torch.inf), made)


@pytest.mark.parametrize("entry", LEARNED, ids=lambda entry: entry["use"])
@pytest.mark.parametrize("coils", [1, 2])
def test_a_network_of_series_learns_survives_saving_and_is_attacked(tmp_path, entry, coils):
    cohort = beating_cohort(coils=coils)
    network = build_network(entry, cohort)
    settings = TrainSettings(epochs=2, batch_size=1, learning_rate=2e-3)
    curve = train(network, cohort, settings, folder=tmp_path / "checkpoint")
    assert curve[-1]["loss"] < curve[0]["loss"]

    save_model(tmp_path / "net.safetensors", entry, network, cohort, settings, curve)
    stored = {**entry, "weights": "net.safetensors"}
    model = load_model(stored, cohort=cohort, folder=tmp_path)
    batch = next(cohort.batches(3))
    assert torch.equal(model(batch.image, batch.context), network(batch.image, batch.context))

    metrics = {"nmse": rb.build("metrics", "nmse_complex")}
    pgd = rb.build("attacks", "pgd", steps=2, random_start=False)
    probes = [rb.clean(metrics), rb.attacked("pgd", pgd, BALL, metrics)]
    records = list(rb.evaluate(model, cohort, probes, batch_size=3))
    clean, attacked = ([r.value for r in records if r.kind == k] for k in ("clean", "attack"))
    assert len(clean) == len(attacked) == 3
    assert all(worse > better for better, worse in zip(clean, attacked, strict=True))


@pytest.mark.parametrize("coils", [1, 2])
def test_sparse_images_are_closer_to_the_truth_than_zero_filled_ones(coils):
    cohort = beating_cohort(coils=coils)
    metrics = {"nmse": rb.build("metrics", "nmse_complex")}
    zero, *sparse = (
        [r.value for r in rb.evaluate(load_model(e, cohort=cohort), cohort, [rb.clean(metrics)])]
        for e in FIXED
    )
    for values in sparse:
        assert all(better < worse for better, worse in zip(values, zero, strict=True))
