"""The T-L network's three stages, and the losses that it judges by, against their formulas."""

import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import robustbench_med as rb
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.models import build_network, load_model, save_model
from robustbench_med.networks.tl_network import TlNetwork
from robustbench_med.training.anatomical_prior import AnatomicalPrior
from robustbench_med.training.card import read_card, write_card
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.sr_prior import SrPrior
from robustbench_med.training.tl_prior import tl_prior
from robustbench_med.training.tl_stages import CodeDistance, CodeJoint, LabelAutoencoder

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
EXAMPLES = Path(__file__).parents[2] / "examples" / "systems"
STAGES = {
    "autoencoder": (LabelAutoencoder(), 12, {"encoder", "decoder"}),
    "predictor": (CodeDistance(), 8, {"predictor"}),
    "joint": (CodeJoint(), 6, {"encoder", "decoder", "predictor"}),
}
ENTRY = {"use": "tl_network", "preset": "small"}
CPU = torch.device("cpu")


def copied(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def moved_parts(before, network):
    after = network.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def staged(folder, entry, epochs=None):
    """Train one network in three stages; of each its curve and the parts that moved."""
    cohort = MADE.hearts()
    network, told = build_network(entry, cohort, seed=0), {}
    for name, (loss, usual, _) in STAGES.items():
        before = copied(network)
        settings = TrainSettings(
            epochs=epochs or usual, batch_size=2, learning_rate=3e-3, weight_decay=1e-6, loss=loss
        )
        curve = train(network, cohort, settings, folder=folder / name)
        told[name] = [row["loss"] for row in curve], moved_parts(before, network)
    return network, told


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tl")
    network, told = staged(folder, ENTRY)
    weights = folder / "tl_network.safetensors"
    save_model(weights, ENTRY, network, MADE.hearts(), TrainSettings(), [{"epoch": 1, "loss": 0.0}])
    return SimpleNamespace(network=network, told=told, weights=str(weights))


def asked(network, cohort=None):
    """The network as a model, and its cohort's first batch."""
    cohort = cohort or MADE.hearts()
    return TorchModel(network, cohort.task, cohort.bounds), next(cohort.batches(4))


class Fixed(nn.Module):
    """Answers what it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, image):
        return self.answer[: len(image)]


def sure(target, classes=4):
    """Logits whose softmax is, in floating point, exactly the truth."""
    return 200 * F.one_hot(target, classes).movedim(-1, 1).float()


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_lowers_its_loss_and_moves_its_own_parts_only(stages, stage):
    curve, moved = stages.told[stage]
    assert min(curve[-2:]) < 0.9 * curve[0]
    assert moved == STAGES[stage][2]


def test_with_batch_normalisation_a_resting_encoder_gathers_no_statistics(tmp_path):
    _, told = staged(tmp_path, ENTRY | {"norm": "batch"}, epochs=1)
    assert told["predictor"][1] == {"predictor"}


def test_after_its_stages_it_is_a_model_like_any_other(stages):
    model = load_model(ENTRY | {"weights": stages.weights}, cohort=MADE.hearts())
    batch = next(MADE.hearts().batches(4))
    torch.testing.assert_close(model(batch.image), stages.network(batch.image))


def test_stages_are_their_formulas(stages):
    network = stages.network
    model, batch = asked(network)
    truth = F.one_hot(batch.target, 4).movedim(-1, 1).float()
    code, predicted = network.encoder(truth), network.predictor(batch.image)
    entropy = F.cross_entropy(network.decoder(code), batch.target, reduction="none").mean((1, 2))
    far = ((code - predicted) ** 2).sum(1)
    torch.testing.assert_close(LabelAutoencoder()(model, batch), entropy)
    torch.testing.assert_close(CodeDistance()(model, batch), far)
    torch.testing.assert_close(CodeJoint(weight=0.3)(model, batch), entropy + 0.3 * far)


def test_a_stage_is_no_loss_of_another_network_or_task(stages):
    model, batch = asked(Fixed(torch.zeros(4, 4, 32, 32)))
    with pytest.raises(InputError, match="'code_distance' is for the network tl_network, got Fix"):
        CodeDistance()(model, batch)
    other = TorchModel(stages.network, Task("reconstruction"), (0, 1))
    with pytest.raises(InputError, match="'label_autoencoder' needs a segmentation task, got rec"):
        LabelAutoencoder()(other, batch)


def test_the_prior_costs_nothing_where_the_answer_is_the_truth(stages):
    _, batch = asked(stages.network)
    model, _ = asked(Fixed(sure(batch.target)))
    assert not AnatomicalPrior(stages.weights, lam=1.0)(model, batch).any()


def test_the_prior_is_its_formula(stages):
    _, batch = asked(stages.network)
    output = torch.randn(4, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    model, _ = asked(Fixed(output))
    entropy = F.cross_entropy(output, batch.target, reduction="none").mean((1, 2))
    truth = F.one_hot(batch.target, 4).movedim(-1, 1).float()
    f = stages.network.encoder
    far = (f(output.softmax(1)) - f(truth)).pow(2).sum(1)
    torch.testing.assert_close(AnatomicalPrior(stages.weights, lam=0.0)(model, batch), entropy)
    found = AnatomicalPrior(stages.weights, lam=0.2)(model, batch)
    torch.testing.assert_close(found, entropy + 0.2 * far)


def test_gradients_go_through_the_frozen_encoder_and_not_into_it(stages, tmp_path):
    prior, _ = tl_prior(stages.weights, CPU)
    before = copied(prior)
    cohort = MADE.hearts()
    network = build_network({"use": "acnn_seg", "preset": "small"}, cohort, seed=0)
    # The prior alone: nothing but what comes through the encoder can move the network.
    loss = AnatomicalPrior(stages.weights, lam=1.0)
    model, batch = asked(network, cohort)
    (loss(model, batch) - cohort.task.loss(network(batch.image), batch.target)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    settings = TrainSettings(epochs=4, batch_size=2, loss=loss, weight_decay=5e-6)
    curve = train(network, cohort, settings, folder=tmp_path)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert all(parameter.grad is None for parameter in prior.parameters())
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    assert not prior.training
    assert not moved_parts(before, prior)


def test_of_whole_patients_every_slice_counts_alike_and_of_large_ones_the_middle(stages):
    target = torch.randint(4, (2, 2, 3, 40, 36), generator=torch.Generator().manual_seed(1))
    output = torch.randn(2, 4, 2, 3, 40, 36, generator=torch.Generator().manual_seed(2))
    cohort = MADE.hearts()
    model = TorchModel(Fixed(output), cohort.task, cohort.bounds)
    batch = Batch(("a", "b"), torch.zeros(2, 1, 2, 3, 40, 36), target)
    plain = cohort.task.loss(output, target)
    far = AnatomicalPrior(stages.weights, lam=1.0)(model, batch) - plain
    expected = []
    for case in range(2):
        answer = output[case, :, :, :, 4:36, 2:34].permute(1, 2, 0, 3, 4).reshape(6, 4, 32, 32)
        truth = F.one_hot(target[case, :, :, 4:36, 2:34].reshape(6, 32, 32), 4).movedim(-1, 1)
        f = stages.network.encoder
        expected.append((f(answer.softmax(1)) - f(truth.float())).pow(2).sum(1).mean())
    torch.testing.assert_close(far, torch.stack(expected), rtol=1e-4, atol=1e-4)


def finer(answer, target):
    """A model that answers `answer`, and a batch whose truth is `target`."""
    model = TorchModel(Fixed(answer), Task("super_resolution"), (0, 1))
    return model, Batch(("a", "b"), torch.zeros(2, 1, 2, 16, 16), target)


def stacks(seed, *shape):
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(seed))


def test_the_prior_of_fine_stacks_costs_nothing_where_the_answer_is_the_truth(stages):
    truth = stacks(0, 10, 32, 32)
    assert not SrPrior(stages.weights, lam=1.0)(*finer(truth, truth)).any()


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_the_prior_of_fine_stacks_is_its_formula_slice_by_slice(stages, beta):
    answer, truth = stacks(1, 5, 36, 34), stacks(2, 5, 36, 34)
    error = (answer - truth).abs()
    smooth = torch.where(error < beta, error**2 / (2 * beta), error - beta / 2).mean((1, 2, 3, 4))
    far = torch.zeros(2)
    for case in range(2):
        for z in range(5):
            pair = torch.stack([answer[case, :, z, 2:34, 1:33], truth[case, :, z, 2:34, 1:33]])
            codes = stages.network.predictor(pair)
            far[case] += (codes[0] - codes[1]).pow(2).sum() / 5
    found = SrPrior(stages.weights, lam=0.1, beta=beta)(*finer(answer, truth))
    torch.testing.assert_close(found, smooth + 0.1 * far, rtol=1e-4, atol=1e-5)
    alone = SrPrior(lam=0, beta=beta)(*finer(answer, truth))
    torch.testing.assert_close(alone, smooth)


def test_a_network_learns_super_resolution_with_the_frozen_predictor(stages, tmp_path):
    cohort = build(
        "cohorts", "synthetic_cine",
        task="super_resolution", patients=1, slices=1, size=32, pixel_mm=4.5,
    )  # fmt: skip
    prior, _ = tl_prior(stages.weights, CPU)
    before = copied(prior)
    network = build_network({"use": "acnn_sr", "preset": "small"}, cohort, seed=0)
    settings = TrainSettings(
        epochs=5, batch_size=2, loss={"use": "sr_prior", "weights": stages.weights, "lam": 1e-3}
    )
    curve = train(network, cohort, settings, folder=tmp_path)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert not moved_parts(before, prior)
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_weights_are_read_once_and_again_when_they_change(stages, tmp_path):
    for suffix in ("safetensors", "json"):
        shutil.copy(Path(stages.weights).with_suffix(f".{suffix}"), tmp_path / f"tl.{suffix}")
    path = str(tmp_path / "tl.safetensors")
    first, task = tl_prior(path, CPU)
    assert isinstance(first, TlNetwork)
    assert task == MADE.hearts().task
    assert tl_prior(path, CPU)[0] is first
    other = build_network(ENTRY, MADE.hearts(), seed=1)
    save_model(Path(path), ENTRY, other, MADE.hearts(), TrainSettings(), [])
    assert torch.equal(tl_prior(path, CPU)[0].encoder[0][0].weight, other.encoder[0][0].weight)


def test_the_card_tells_the_priors_weights_by_their_digest(stages):
    told = TrainSettings(loss=AnatomicalPrior(stages.weights)).described()["loss"]
    assert told["weights"]["file"] == "tl_network.safetensors"
    assert told["lam"] == 0.01


@pytest.mark.parametrize(
    ("builder", "settings", "told"),
    [
        (CodeJoint, {"weight": -1}, "code_joint: weight must be at least 0, got -1"),
        (AnatomicalPrior, {"weights": "x", "lam": -1}, "anatomical_prior: lam must be at least 0"),
        (SrPrior, {"lam": float("nan")}, "sr_prior: lam must be at least 0, got nan"),
        (SrPrior, {"lam": 0, "beta": 0}, "sr_prior: beta must be above 0, got 0"),
        (SrPrior, {}, "expected weights = FILE of a tl_network, unless lam = 0"),
    ],
)
def test_wrong_settings_are_refused(builder, settings, told):
    with pytest.raises(InputError, match=told):
        builder(**settings)


def refused(weights, told, cohort=None, answer=None):
    model, batch = asked(Fixed(torch.zeros(4, 4, 32, 32) if answer is None else answer), cohort)
    with pytest.raises(InputError, match=told) as error:
        AnatomicalPrior(str(weights))(model, batch)
    assert len(str(error.value).splitlines()) == 1


def test_weights_that_are_no_trained_tl_network_are_refused(stages, tmp_path):
    path, card = tmp_path / "tl.safetensors", read_card(Path(stages.weights))
    refused(path, r"tl\.safetensors: not there; train a tl_network first")
    shutil.copy(stages.weights, path)
    refused(path, "expected a model card of tl_network beside them, got none")
    write_card(path, replace(card, network="unet"))
    refused(path, "expected a model card of tl_network beside them, got one of 'unet'")
    write_card(path, replace(card, weights_sha256="0"))
    refused(path, "altered since its model card was written")
    write_card(path, replace(card, settings={**card.settings, "preset": "full"}))
    refused(path, r"do not fit TlNetwork: .*; check preset, in_channels, classes and size")


def test_another_task_or_a_smaller_answer_than_the_tl_networks_is_refused(stages):
    cohort = MADE.hearts()
    other = rb.Cohort("other", Task("segmentation", ("a", "b", "c", "d")), (0, 1), cohort.cases)
    refused(stages.weights, r"its T-L network is for Task\(.*, the training for Task\(", other)
    small = build("cohorts", "synthetic_cine", patients=1, slices=1, size=16, pixel_mm=9.0)
    refused(stages.weights, "looks at 32 x 32 pixels, the answer has 16 x 16; train one",
            small, torch.zeros(4, 4, 16, 16))  # fmt: skip
    model = TorchModel(Fixed(torch.zeros(4, 4)), Task("classification", ("a", "b")), (0, 1))
    with pytest.raises(InputError, match="needs a super_resolution task, got classification"):
        SrPrior(lam=0)(model, next(cohort.batches(4)))


def test_the_plans_of_the_examples_follow_one_another():
    stages = (f"tl_{name}" for name in ("1_autoencoder", "2_predictor", "3_joint"))
    one, two, three = (rb.load_plan(EXAMPLES / f"{name}.toml") for name in stages)
    losses = [plan.train["loss"]["use"] for plan in (one, two, three)]
    assert losses == ["label_autoencoder", "code_distance", "code_joint"]
    for earlier, later in ((one, two), (two, three)):
        assert Path(later.train["start"]).name == Path(earlier.model["weights"]).name
        assert {**later.model, "weights": ""} == {**earlier.model, "weights": ""}
        assert later.cohort == earlier.cohort
    for name in ("acnn_seg", "acnn_sr"):
        plan = rb.load_plan(EXAMPLES / f"{name}.toml")
        beside = Path(plan.train["loss"]["weights"]).resolve()
        assert beside == (EXAMPLES / three.model["weights"]).resolve()
        for setting in ("size", "pixel_mm"):
            assert plan.cohort.settings[setting] == one.cohort.settings[setting]
