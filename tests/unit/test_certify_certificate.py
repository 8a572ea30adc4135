"""What a certificate says about a case, against closed forms and attacks."""

import math
import pickle

import pytest
import torch
from torch import nn

from robustbench_med.cases import Batch, Task
from robustbench_med.certify import chunks, trace
from robustbench_med.certify.crown import Crown
from robustbench_med.certify.crown_ibp import CrownIbp
from robustbench_med.certify.ibp import Ibp
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

KINDS = (Ibp, CrownIbp, Crown)
UNBOUNDED = (-math.inf, math.inf)
CLASSES = ("a", "b", "c")


def built(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


def batch_of(image, target, **context):
    return Batch(tuple(f"case{i}" for i in range(len(image))), image, target, context)


def run(certifier, model, batch, ball):
    return certifier(model, batch, ball, CaseRng(0, "test", batch.case_ids))


@pytest.fixture
def linear():
    network = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    return TorchModel(network, Task("classification", CLASSES), UNBOUNDED)


@pytest.fixture
def cases():
    image = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return batch_of(image, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))


def exact_margins(model, batch, dual):
    """Smallest margin and its slope's length in the dual norm, of a linear classifier."""
    weight, logits = model.network[1].weight, model(batch.image)
    reach = []
    for logit, true in zip(logits, batch.target.tolist(), strict=True):
        others = [k for k in range(3) if k != true]
        slope = torch.linalg.vector_norm(weight[true] - weight[others], dual, dim=1)
        reach.append((logit[true] - logit[others], slope))
    return reach


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [0.001, 0.02, 0.1])
def test_a_linear_classifier_is_certified_up_to_its_exact_linf_margin(kind, eps, linear, cases):
    values = run(kind(), linear, cases, Ball("linf", eps))
    exact = exact_margins(linear, cases, 1)
    worst = torch.stack([(margin - eps * slope).min() for margin, slope in exact]).detach()
    assert torch.allclose(values["margin_bound"], worst, atol=1e-5)
    assert torch.equal(values["certified"] == 1, worst > 1e-4)
    assert torch.equal(values["checked"], values["certified"])
    assert torch.equal(values["falsified"] == 1, worst < 0)  # gradient steps find the corner


@pytest.mark.parametrize("kind", [CrownIbp, Crown])
def test_a_linear_classifier_is_certified_up_to_its_exact_l2_margin(kind, linear, cases):
    values = run(kind(), linear, cases, Ball("l2", 0.2))
    exact = exact_margins(linear, cases, 2)
    worst = torch.stack([(margin - 0.2 * slope).min() for margin, slope in exact]).detach()
    assert torch.allclose(values["margin_bound"], worst, atol=1e-5)


def test_the_radius_of_each_case_is_its_own_in_every_unit(linear, cases):
    noisy = batch_of(cases.image, cases.target, noise=torch.linspace(0.01, 0.08, 8))
    values = run(Crown(), linear, noisy, Ball("linf", 0.5, unit="noise"))
    for case in range(8):
        eps = 0.5 * float(noisy.context["noise"][case])
        alone = run(Crown(), linear, cases[case], Ball("linf", eps))
        assert torch.allclose(values["margin_bound"][case], alone["margin_bound"][0], atol=1e-6)


def test_only_the_support_counts(linear, cases):
    support = torch.zeros(8, 1, 4, 4)
    support[..., :2] = 1
    values = run(
        Crown(), linear, batch_of(cases.image, cases.target, mask=support),
        Ball("linf", 0.1, support="mask"),
    )  # fmt: skip
    weight, logits = linear.network[1].weight, linear(cases.image)
    for case, true in enumerate(cases.target.tolist()):
        others = [k for k in range(3) if k != true]
        slope = (weight[true] - weight[others]) * support[case].flatten()
        exact = (logits[case, true] - logits[case, others] - 0.1 * slope.abs().sum(1)).min()
        assert torch.allclose(values["margin_bound"][case], exact, atol=1e-5)


def test_legal_intensities_cut_the_box(linear):
    bright = batch_of(torch.ones(1, 1, 4, 4), torch.tensor([0]))
    cut = run(Crown(), linear, bright, Ball("linf", 0.1, (0.0, 1.0)))["margin_bound"]
    weight, logits = linear.network[1].weight, linear(bright.image)[0]
    slope = 0.1 * (weight[0] - weight[1:]).clamp(min=0).sum(dim=1)
    assert torch.allclose(cut, (logits[0] - logits[1:] - slope).min(), atol=1e-5)


def test_a_margin_within_the_slack_is_left_undecided():
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0], [1.0]]))
        network.bias.copy_(torch.tensor([0.001, 0.0]))
    model = TorchModel(network, Task("classification", ("a", "b")), UNBOUNDED)
    case = batch_of(torch.zeros(1, 1), torch.tensor([0]))
    decided = run(Crown(), model, case, Ball("linf", 0.5))
    shy = run(Crown(slack=0.01), model, case, Ball("linf", 0.5))
    assert (decided["certified"], shy["certified"], shy["undecided"]) == (1, 0, 1)


@pytest.fixture
def segmenter():
    def make():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2),
        )  # fmt: skip

    network = built(make, 2)
    with torch.no_grad():  # so that no class wins everywhere
        network[-1].bias -= network(torch.linspace(0, 1, 64).view(1, 1, 8, 8)).mean((0, 2, 3))
    return TorchModel(network, Task("segmentation", CLASSES), (0.0, 1.0))


@pytest.fixture
def slices(segmenter):
    image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    target = segmenter(image).argmax(dim=1)
    target[:, :2] = (target[:, :2] + 1) % 3  # a quarter of the clean answers is wrong
    return batch_of(image, target)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_certified_one_by_one_and_shares_sum_to_one(kind, segmenter, slices):
    values = run(kind(), segmenter, slices, Ball("linf", 0.002, (0.0, 1.0)))
    assert (values["falsified"] >= 0.25 - 1e-6).all()
    total = values["certified"] + values["falsified"] + values["undecided"]
    assert torch.allclose(total, torch.ones(2))
    counts = {f"{end}.{label}" for end in ("least", "most") for label in range(3)}
    assert set(values) == {"certified", "falsified", "undecided", "checked", *counts}
    assert (values["checked"] >= values["certified"]).all()


def average_pooled(segmenter):
    """The same segmenter without a maximum, which written out is bounded less closely."""
    network = nn.Sequential(*segmenter.network)
    network[2] = nn.AvgPool2d(2)
    return TorchModel(network, segmenter.task, segmenter.bounds)


def test_a_segmentation_agrees_with_bounds_of_each_pixel(segmenter, slices):
    segmenter = average_pooled(segmenter)
    ball = Ball("linf", 0.01, (0.0, 1.0))
    values = run(CrownIbp(), segmenter, slices, ball)
    assert 0.05 < float(values["certified"].mean()) < 0.95
    for case in range(2):
        one, proved = slices[case], 0
        low = (one.image - 0.01).clamp(0, 1)
        high = (one.image + 0.01).clamp(0, 1)
        clean = segmenter(one.image)[0]
        for y in range(8):
            for x in range(8):
                true = int(one.target[0, y, x])
                if clean[:, y, x].argmax() != true:
                    continue
                rows = torch.zeros(2, 3, 8, 8)
                for row, other in enumerate(k for k in range(3) if k != true):
                    rows[row, true, y, x], rows[row, other, y, x] = 1, -1
                lower, _ = trace_bound(segmenter.network, low, high, rows.flatten(start_dim=1))
                proved += bool((lower > 1e-5 * (1 + clean.abs().max())).all())
        # Ranges met on the way back are used as well, so that a pixel more may be proved.
        assert proved / 64 - 1e-6 <= float(values["certified"][case]) <= proved / 64 + 0.1


def trace_bound(network, low, high, rows):
    from robustbench_med import bound

    return bound(network, low, high, rows, method="crown_ibp")


def test_a_small_budget_gives_the_same_shares_in_more_chunks(segmenter, slices, monkeypatch):
    network = nn.Sequential(*segmenter.network)
    network[1] = nn.Tanh()  # cannot be written out: by auto-LiRPA alone
    segmenter = TorchModel(network, segmenter.task, segmenter.bounds)
    ball = Ball("linf", 0.01, (0.0, 1.0))
    expected = run(Crown(), segmenter, slices, ball)
    asked = []

    def few(widest, itemsize, budget, device):
        asked.append(chunks.rows_at_once(widest, itemsize, budget, device))
        return 4

    monkeypatch.setattr(trace, "rows_at_once", few)
    values = run(Crown(), segmenter, slices, ball)
    assert asked[0] > 128
    for name, value in expected.items():
        assert torch.equal(values[name], value)


def test_tighter_methods_prove_at_least_as_many_pixels(segmenter, slices):
    ball = Ball("linf", 0.01, (0.0, 1.0))
    shares = [run(kind(), segmenter, slices, ball)["certified"] for kind in KINDS]
    assert (shares[0] <= shares[1]).all()
    assert (shares[1] <= shares[2]).all()
    assert shares[0].sum() < shares[2].sum()


def test_a_multilabel_case_needs_every_sign_kept():
    network = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.eye(2))
    model = TorchModel(network, Task("multilabel", ("x", "y")), UNBOUNDED)
    image = torch.tensor([[0.5, -0.5], [0.5, -0.05], [0.5, 0.5]])
    case = batch_of(image, torch.tensor([[1, 0], [1, 0], [1, 0]]))
    values = run(Crown(), model, case, Ball("linf", 0.1))
    assert values["certified"].tolist() == [1, 0, 0]
    assert values["undecided"].tolist() == [0, 0, 0]
    assert values["falsified"].tolist() == [0, 1, 1]
    assert torch.allclose(values["margin_bound"], torch.tensor([0.4, -0.05, -0.6]))


class WithContext(nn.Module):
    def forward(self, image, context):
        return image.flatten(start_dim=1) + context["offset"]


class NoTorch:
    """A model that is not a torch network, as one read from ONNX."""

    task = Task("classification", CLASSES)
    bounds = UNBOUNDED

    def __call__(self, image, context=None):
        return image.flatten(start_dim=1)[:, :3]


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (NoTorch(), "needs a torch network, got a NoTorch"),
        (TorchModel(WithContext(), Task("classification", CLASSES), UNBOUNDED), "context"),
        (TorchModel(nn.Linear(4, 3), Task("regression", ("ml",)), UNBOUNDED), "task regression"),
        (TorchModel(nn.Linear(4, 3), Task("reconstruction"), UNBOUNDED), "task reconstruction"),
    ],
)
def test_a_model_that_cannot_be_bounded_is_unsupported(model, problem):
    case = batch_of(torch.zeros(1, 4), torch.tensor([0]))
    with pytest.raises(UnsupportedError, match=problem):
        run(Crown(), model, case, Ball("linf", 0.1))


def test_an_l1_ball_is_unsupported(linear, cases):
    with pytest.raises(UnsupportedError, match="linf or l2"):
        run(Crown(), linear, cases, Ball("l1", 0.1))


@pytest.mark.parametrize(
    ("target", "problem"),
    [(torch.tensor([3]), "class 3, the model has 3"), (torch.tensor([[0, 1]]), "must be")],
)
def test_a_target_that_does_not_fit_is_a_failed_case(linear, target, problem):
    case = batch_of(torch.zeros(1, 1, 4, 4), target)
    with pytest.raises(CaseError, match=problem):
        run(Crown(), linear, case, Ball("linf", 0.1))


@pytest.mark.parametrize("slack", [-1e-3, math.nan, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_a_slack_below_zero_or_without_limit_is_refused(kind, slack):
    with pytest.raises(InputError, match="slack must be finite"):
        kind(slack=slack)


@pytest.mark.parametrize("kind", KINDS)
def test_a_certifier_survives_pickling(kind):
    assert pickle.loads(pickle.dumps(kind(slack=1e-3))) == kind(slack=1e-3)  # noqa: S301
