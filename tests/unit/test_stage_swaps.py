"""Stage swaps: parts add up to the whole, and the stage that was built to fail is the one named."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robustbench_med.attacks.clinical_measures import SignedMeasure
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.cases import Batch, Task
from robustbench_med.engine.stage_swaps import Stage, Swaps, pipeline_stages, stage_swaps
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.metrics.measure_error import MeasureError
from robustbench_med.model import TorchModel
from robustbench_med.networks.pipeline import pipeline
from robustbench_med.networks.zero_filled import zero_filled
from robustbench_med.physics.fourier import fft2c, to_channels
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

TASK = Task("segmentation", ("background", "lv", "myo", "rv"))
INTENSITY = torch.tensor([0.05, 0.95, 0.35, 0.65])
SIZE = 24
ROWS = torch.arange(SIZE)
CHECKER = 1.0 - 2 * ((ROWS[:, None] + ROWS) % 2)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# ---- constructed chains of numbers


def as_number(output, target):
    return output[:, 0] - target


def drawn(seed, depth, cases=3, width=4):
    """Stages of random maps, some with a random ideal, and clean and attacked inputs."""
    stream = torch.Generator().manual_seed(seed)

    def tensor(*shape):
        return torch.randn(*shape, generator=stream, dtype=torch.float64)

    def run(weight):
        return lambda value, batch: torch.tanh(value @ weight) + 0.1 * batch.image

    stages = []
    for index in range(depth):
        ideal = run(tensor(width, width)) if torch.rand(1, generator=stream) < 0.6 else None
        stages.append(Stage(f"stage {index}", run(tensor(width, width)), ideal))
    batch = Batch(tuple("abc"), tensor(cases, width), tensor(cases))
    return stages, batch, batch.image + 0.3 * tensor(cases, width)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_parts_and_rest_add_up_to_the_whole_error(seed, depth):
    stages, batch, attacked = drawn(seed, depth)
    found = stage_swaps(stages, as_number, batch, attacked)
    value, clean = attacked, batch.image
    for stage in stages:
        value, clean = stage.run(value, batch), stage.run(clean, batch)
    torch.testing.assert_close(found.attacked[0], value[:, 0] - batch.target)
    torch.testing.assert_close(found.clean[0], clean[:, 0] - batch.target)
    whole = found.parts.sum(dim=0) + found.rest
    torch.testing.assert_close(whole, found.attacked[0], rtol=0, atol=1e-12)
    added = found.added.sum(dim=0) + found.rest - found.clean[-1]
    torch.testing.assert_close(added, found.attacked[0] - found.clean[0], rtol=0, atol=1e-12)


def test_without_an_attack_nothing_is_added_moved_or_blamed():
    stages, batch, _ = drawn(3, 3)
    found = stage_swaps(stages, as_number, batch, batch.image)
    assert (found.added == 0).all()
    assert (found.moved == 0).all()
    assert found.failed == (None, None, None)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_the_only_stage_that_answers_to_a_trigger_carries_all_of_the_error(broken):
    """Stages pass on two numbers, value and trigger; one adds the trigger to the value."""

    def honest(value, batch):
        return value

    def tripped(value, batch):
        return torch.stack([value[:, 0] + 5 * value[:, 1], value[:, 1]], dim=1)

    stages = [Stage(f"s{i}", tripped if i == broken else honest, honest) for i in range(3)]
    clean = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    attacked = clean + torch.tensor([[0.0, 0.1], [0.0, -0.2]])
    found = stage_swaps(stages, as_number, Batch(("a", "b"), clean, clean[:, 0]), attacked)
    expected = torch.zeros(3, 2, dtype=torch.float64)
    expected[broken] = torch.tensor([0.5, -1.0])
    torch.testing.assert_close(found.parts, expected, atol=1e-6, rtol=0)
    assert found.failed == (f"s{broken}", f"s{broken}")


def test_a_stage_without_an_ideal_is_exchanged_for_its_clean_output():
    double = Stage("double", lambda value, batch: 2 * value)
    plus = Stage("plus", lambda value, batch: value + 1)
    clean, attacked = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.5], [0.0]])
    found = stage_swaps([double, plus], as_number, Batch(("a", "b"), clean, clean[:, 0]), attacked)
    assert found.attacked.tolist() == [[3.0, 0.0], [2.0, 2.0], [2.0, 2.0]]
    assert found.failed == ("double", "double")  # what enters before it cannot be told from it
    assert found.moved.flatten().tolist() == pytest.approx([0.5, 1.0, 1 / 3, 2 / 3])


def test_a_measure_that_is_not_defined_blames_nobody():
    error = torch.tensor([[1.0, torch.nan], [0.0, 0.0]])
    found = Swaps(("only",), error, torch.zeros(2, 2), torch.zeros(1, 2))
    assert found.failed == ("only", None)


# ---- hearts: k-space to an ejection fraction


def hearts(cases=2):
    y, x = torch.meshgrid(*[ROWS - SIZE / 2 + 0.5] * 2, indexing="ij")
    distance, beside = (y**2 + x**2).sqrt(), (y**2 + (x + 8.5) ** 2).sqrt()
    target = torch.zeros(cases, 2, 3, SIZE, SIZE, dtype=torch.long)
    for phase, (cavity, wall) in enumerate(((4.0, 6.0), (2.7, 6.0))):
        frame = target[:, phase]
        frame[..., beside < 3.5] = 3
        frame[..., distance < wall] = 2
        frame[..., distance < cavity] = 1
    image = INTENSITY[target].to(torch.complex64)
    mask = torch.ones(cases, 1, *target.shape[1:])
    context = {
        "mask": mask,
        "spacing": torch.tensor([[8.0, 4.0, 4.0]]).expand(cases, 3),
        "full": to_channels(image[:, None]),
    }
    return Batch(tuple("ab"[:cases]), to_channels(fft2c(image)[:, None]), target, context)


class Nearest(nn.Conv2d):
    """The class of the nearest intensity: a faint ripple changes nothing."""

    def __init__(self):
        super().__init__(1, 4, 1)
        with torch.no_grad():
            self.weight[:, 0, 0, 0] = 40 * INTENSITY
            self.bias[:] = -20 * INTENSITY.square()


def checker_in(image):
    """How much of a checkerboard each image `(n, c, h, w)` shows, `(n, 1, 1, 1)`."""
    return (image[:, :1] * CHECKER).mean(dim=(1, 2, 3), keepdim=True).abs()


def spoilt(image, share):
    """Dims the upper half of what is bright, by as much as the checkerboard asks."""
    bright = image > 0.8
    bright[..., SIZE // 2 :, :] = False
    return image - 0.6 * image * bright * (share / 0.02).clamp(max=1).round()


class TrippedReconstruction(nn.Module):
    def forward(self, image, context=None):
        seen = zero_filled()(image, context)
        return spoilt(seen, checker_in(seen))


class TrippedSegmentation(Nearest):
    def forward(self, image):
        return super().forward(spoilt(image, checker_in(image)))


CHAINS = {
    "reconstruction": (TrippedReconstruction, Nearest),
    "segmentation": (zero_filled, TrippedSegmentation),
}


@pytest.mark.parametrize("full", [None, "full"])
@pytest.mark.parametrize("failing", CHAINS)
def test_of_two_tripped_pipelines_the_tripped_stage_is_named(failing, full):
    reconstruction, segmentation = (make() for make in CHAINS[failing])
    network = pipeline(reconstruction=reconstruction, segmentation=segmentation)
    model, batch = TorchModel(network, TASK, (-1e9, 1e9)), hearts()
    ripple = torch.zeros(2, 2, 3, SIZE, SIZE, dtype=torch.complex64)
    ripple[:, 0] = 0.03 * CHECKER  # in the first phase alone
    attacked = batch.image + to_channels(fft2c(ripple)[:, None])
    found = stage_swaps(pipeline_stages(model, full=full), MeasureError("lvef"), batch, attacked)
    assert found.stages == ("reconstruction", "segmentation")
    assert (found.clean.abs() < 1e-6).all()  # without the ripple the chain is right
    assert (found.attacked[0] < -20).all()
    assert found.failed == (failing, failing)
    index = found.stages.index(failing)
    torch.testing.assert_close(found.parts[index], found.attacked[0], atol=1e-6, rtol=0)
    assert (found.parts[1 - index].abs() < 1e-6).all()
    assert (found.rest == 0).all()


def test_of_a_search_through_the_whole_chain_the_parts_add_up():
    network = pipeline(reconstruction=zero_filled(), segmentation=Nearest())
    model, batch = TorchModel(network, TASK, (-1e9, 1e9)), hearts()
    ball = Ball("l2", 0.08, unit="fraction", support="mask")
    goal = SignedMeasure("lvef", -1)
    attack = Pgd(steps=30, step_size=0.2, random_start=False, objective=goal)
    attacked = ball.project(
        attack(model, batch, ball, CaseRng(0, "x", batch.case_ids)), batch.image, batch.context
    )
    metric = MeasureError("lvef")
    found = stage_swaps(pipeline_stages(model), metric, batch, attacked)
    whole = metric(model(attacked, batch.context), batch.target, batch.context)["value"]
    assert (whole < -3).all()
    torch.testing.assert_close(found.attacked[0], whole)
    torch.testing.assert_close(found.parts.sum(dim=0) + found.rest, whole, atol=1e-9, rtol=0)
    # Zero filling is the honest reconstruction itself, so it carries nothing.
    assert (found.parts[0].abs() < 1e-6).all()
    assert found.failed == ("segmentation", "segmentation")
    assert (found.moved[0] > 0).all()


def test_what_does_not_fit_is_told():
    stages, batch, attacked = drawn(0, 2)
    with pytest.raises(InputError, match="stages of different names"):
        stage_swaps([stages[0], stages[0]], as_number, batch, attacked)
    with pytest.raises(InputError, match="stages of different names"):
        stage_swaps([], as_number, batch, attacked)
    with pytest.raises(InputError, match=r"must be \(3, 4\), as the clean ones, got \(2, 4\)"):
        stage_swaps(stages, as_number, batch, attacked[:2])
    with pytest.raises(UnsupportedError, match="network 'pipeline', got a Linear"):
        pipeline_stages(TorchModel(nn.Linear(1, 1), TASK, (0, 1)))
    network = pipeline(reconstruction=zero_filled(), segmentation=Nearest())
    model, whole = TorchModel(network, TASK, (-1e9, 1e9)), hearts()
    with pytest.raises(InputError, match="needs 'truth' in the context, which has mask"):
        stage_swaps(pipeline_stages(model, full="truth"), MeasureError("lvef"), whole, whole.image)


def test_the_program_of_the_page_names_the_stage_that_it_says():
    page = (Path(__file__).parents[2] / "docs" / "attack.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (program,) = (text for text in programs if "stage_swaps" in text)
    scope = {"__name__": "page"}
    exec(compile(program, "attack.md", "exec"), scope)  # noqa: S102
    found = scope["swaps"]
    assert found.failed == ("sharpen", "sharpen")
    torch.testing.assert_close(found.parts.sum(dim=0) + found.rest, found.attacked[0])
