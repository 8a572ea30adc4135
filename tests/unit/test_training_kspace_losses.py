"""Losses of LI-Net's two stages, and of clinical measures."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.cases import Batch, Task, stack
from robustbench_med.clinical import measure
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.model import TorchModel
from robustbench_med.networks.linet import LiNet
from robustbench_med.soft_measures import MEASURES, soft_measures
from robustbench_med.training.linet_loss import LinetCodes, LinetLabels
from robustbench_med.training.loop import train
from robustbench_med.training.measure_loss import MeasureCe
from robustbench_med.training.settings import TrainSettings

GRID = {"patients": 1, "size": 32, "pixel_mm": 4.5}
UNBOUNDED = (-math.inf, math.inf)


def cohort(task="kspace_segmentation", **settings):
    return build("cohorts", "synthetic_cine", task=task, **(GRID | settings))


def small_linet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LiNet((4, 6, 8, 8), 4, (32, 32), 5)


def asked(network, found):
    return TorchModel(network, found.task, found.bounds)


def learned(network):
    """Parts of the network that got gradients."""
    return {name.split(".")[0] for name, w in network.named_parameters() if w.grad is not None}


def test_the_first_stage_is_the_cross_entropy_of_labels_through_their_code():
    found, network = cohort(), small_linet()
    batch = stack(found.cases[:3])
    losses = LinetLabels()(asked(network, found), batch)
    channels = torch.stack([batch.target == k for k in range(4)], dim=1).float()
    logits = network.decoder(network.encoder(channels))
    entropy = F.nll_loss(logits.log_softmax(dim=1), batch.target, reduction="none")
    torch.testing.assert_close(losses, entropy.mean(dim=(1, 2)))
    losses.sum().backward()
    assert learned(network) == {"encoder", "decoder"}


def test_the_second_stage_is_the_sources_sum_and_moves_the_predictor_alone():
    found, network = cohort(lines=4), small_linet()
    batch = stack(found.cases[:3])
    losses = LinetCodes(full=2.0, agreement=0.5, entropy=3.0)(asked(network, found), batch)
    kspace = torch.complex(batch.image[:, 0], batch.image[:, 1])
    axes = (-2, -1)
    image = torch.fft.fftshift(
        torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=axes), norm="ortho"), dim=axes
    )
    with torch.no_grad():
        y = network.encoder(F.one_hot(batch.target, 4).movedim(-1, 1).float())
        u = network.predictor(torch.stack([image.real, image.imag], dim=1))
        x = network.predictor(batch.context["full"])
        entropy = found.task.loss(network.decoder(u), batch.target)
        one, two, three = (((a - b) ** 2).sum(1).sqrt() for a, b in ((y, u), (y, x), (x, u)))
    torch.testing.assert_close(losses, one + 2 * two + 0.5 * three + 3 * entropy, atol=1e-4,
                               rtol=1e-4)  # fmt: skip
    losses.sum().backward()
    assert learned(network) == {"predictor"}


def test_equal_images_cost_nothing_for_agreement_and_give_finite_gradients():
    found, network = cohort(acceleration=1), small_linet()
    batch = stack(found.cases[:1])
    both = [LinetCodes(agreement=weight)(asked(network, found), batch) for weight in (0.0, 9.0)]
    torch.testing.assert_close(both[0], both[1], atol=1e-3, rtol=1e-4)
    same = Batch(batch.case_ids, torch.zeros_like(batch.image), batch.target,
                 {**batch.context, "full": torch.zeros_like(batch.context["full"])})  # fmt: skip
    LinetCodes()(asked(network, found), same).sum().backward()
    assert all(w.grad.isfinite().all() for w in network.predictor.parameters())


def test_both_stages_learn_one_after_the_other(tmp_path):
    found, network = cohort(lines=[2, 8]), small_linet()
    first = TrainSettings(epochs=3, batch_size=6, loss={"use": "linet_labels"}, learning_rate=5e-3)
    curve = train(network, found, first, folder=tmp_path / "first")
    assert curve[-1]["loss"] < curve[0]["loss"]
    kept = {name: w.clone() for name, w in network.named_parameters()}
    # Weight decay must not reach what is frozen either.
    second = TrainSettings(epochs=3, batch_size=6, loss={"use": "linet_codes"}, weight_decay=0.1)
    curve = train(network, found, second, folder=tmp_path / "second")
    assert curve[-1]["loss"] < curve[0]["loss"]
    for name, weights in network.named_parameters():
        assert torch.equal(weights, kept[name]) == (not name.startswith("predictor")), name


def no_full(batch):
    context = {name: value for name, value in batch.context.items() if name != "full"}
    return Batch(batch.case_ids, batch.image, batch.target, context)


def test_what_the_stages_cannot_learn_from_is_refused():
    found = cohort()
    batch = stack(found.cases[:1])
    with pytest.raises(InputError, match="for the network linet, got Conv2d"):
        LinetLabels()(asked(nn.Conv2d(2, 4, 1), found), batch)
    with pytest.raises(InputError, match=r"needs the fully sampled image `full`.*mask"):
        LinetCodes()(asked(small_linet(), found), no_full(batch))
    with pytest.raises(InputError, match="needs single slices"):
        LinetLabels()(asked(small_linet(), found), stack([cohort("chain").cases[0]]))
    for name in ("full", "agreement", "entropy"):
        with pytest.raises(InputError, match=f"{name} must be finite, at least 0, got -1"):
            LinetCodes(**{name: -1})


def test_soft_measures_of_labels_are_the_clinical_measures():
    found = cohort("patient", patients=3, size=48, pixel_mm=3.5)
    for case in found.cases:
        truth = F.one_hot(case.target, 4).movedim(-1, 0)[None].double()
        soft = soft_measures(truth, case.context["spacing"][None].double())
        hard = measure(case.target.numpy(), case.context["spacing"].numpy())
        assert soft.keys() == set(MEASURES)
        for name, value in soft.items():
            assert value.item() == pytest.approx(getattr(hard, name), rel=1e-5)


def test_soft_measures_come_from_sums_of_probabilities():
    draw = torch.Generator().manual_seed(0)
    shares = torch.rand(2, 4, 2, 3, 5, 5, generator=draw).softmax(dim=1)
    spacing = torch.tensor([[8.0, 2.0, 2.0], [10.0, 1.0, 3.0]])
    found = soft_measures(shares, spacing)
    for b in range(2):
        voxel = spacing[b].prod() / 1000
        edv, esv = (sum(shares[b, 1, phase].flatten().tolist()) * voxel for phase in (0, 1))
        assert found["lvedv"][b].item() == pytest.approx(edv.item(), rel=1e-5)
        assert found["lvef"][b].item() == pytest.approx(
            (100 * (edv - esv) / max(edv, 1)).item(), rel=1e-3, abs=1e-3
        )
        mass = sum(shares[b, 2, 0].flatten().tolist()) * voxel * 1.05
        assert found["lvm"][b].item() == pytest.approx(mass.item(), rel=1e-5)


class Answer(nn.Module):
    """Logits that are parameters."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image):
        return self.logits


TASK = Task("segmentation", ("background", "lv", "myo", "rv"))


def patient(seed=0):
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (1, 2, 3, 6, 6), generator=draw)
    context = {"spacing": torch.tensor([[8.0, 5.0, 5.0]])}
    return Batch(("p",), torch.zeros(1, 1), target, context)


def test_the_loss_is_absolute_errors_in_tens_of_points_and_the_cross_entropy():
    batch = patient()
    logits = torch.randn(1, 4, 2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    model = TorchModel(Answer(logits), TASK, UNBOUNDED)
    entropy = TASK.loss(logits, batch.target)
    found = soft_measures(logits.softmax(dim=1), batch.context["spacing"])
    true = measure(batch.target[0].numpy(), batch.context["spacing"][0].numpy())
    ef, mass = abs(found["lvef"].item() - true.lvef), abs(found["lvm"].item() - true.lvm)
    value = MeasureCe(("lvef", "lvm"), entropy=0.3)(model, batch)
    assert value.shape == (1,)
    assert value.item() == pytest.approx((ef / 10 + mass / 20) / 2 + 0.3 * entropy.item(), rel=1e-4)
    sure = TorchModel(Answer(40.0 * F.one_hot(batch.target, 4).movedim(-1, 1)), TASK, UNBOUNDED)
    assert MeasureCe(MEASURES)(sure, batch).item() == pytest.approx(0, abs=1e-4)


def test_descending_the_loss_mends_the_ejection_fraction():
    batch = patient(2)
    network = Answer(torch.zeros(1, 4, 2, 3, 6, 6))
    model, loss = TorchModel(network, TASK, UNBOUNDED), MeasureCe(("lvef",), entropy=0.0)
    before = loss(model, batch).item()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        loss(model, batch).sum().backward()
        optimiser.step()
    assert before > 0.1
    assert loss(model, batch).item() < 0.1 * before


def test_a_patient_without_a_ventricle_has_finite_gradients():
    batch = patient()
    logits = torch.zeros(1, 4, 2, 3, 6, 6)
    logits[:, 1] = -200.0
    network = Answer(logits)
    MeasureCe(("lvef", "rvef"))(TorchModel(network, TASK, UNBOUNDED), batch).sum().backward()
    assert network.logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measures": ["lvf"]}, "no measure 'lvf' of soft volumes; did you mean 'lvef'"),
        ({"measures": ["wall_mm"]}, "no measure 'wall_mm'"),
        ({"measures": "lvef"}, "must be a list of names, got 'lvef'"),
        ({"measures": []}, "must be a list of names"),
        ({"entropy": -1.0}, "entropy must be finite, at least 0, got -1.0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build("losses", "measure_ce", **settings)


def test_single_slices_and_missing_spacing_are_refused():
    slices = Answer(torch.zeros(1, 4, 6, 6))
    with pytest.raises(InputError, match=r"whole patients, output \(b, 4, 2, z, y, x\)"):
        MeasureCe()(TorchModel(slices, TASK, UNBOUNDED), patient())
    bare = Batch(("p",), torch.zeros(1, 1), patient().target)
    with pytest.raises(InputError, match="needs `spacing`"):
        MeasureCe()(TorchModel(Answer(torch.zeros(1, 4, 2, 3, 6, 6)), TASK, UNBOUNDED), bare)
