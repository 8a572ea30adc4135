"""Smoothing against models whose smoothed answers and radii are known in closed form."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from torch import nn

from robustbench_med.cases import Batch, Task
from robustbench_med.certify import votes
from robustbench_med.certify.binomial import bonferroni, holm, lower_limit, p_values
from robustbench_med.certify.smoothing import Smoothing
from robustbench_med.engine.certified_survivors import CertifiedSurvivors
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.probes import SMOOTHING, certified
from robustbench_med.statistics.contradiction import STATISTICAL
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

BOUNDS = (0.0, 1.0)
SIGMA = 0.25
NOTHING = Ball("l2", 0.0, BOUNDS)


def ids(count):
    return tuple(f"case-{index}" for index in range(count))


def run(certifier, model, batch, ball=NOTHING, seed=1):
    return certifier(model, batch, ball, CaseRng(seed, "smoothing", batch.case_ids))


def linear(distance):
    """A classifier whose border lies `distance` from the image of all 0.5, on the side of 1."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[0.0] * 4, [3.0, 0.0, 4.0, 0.0]]))
        network[1].bias.copy_(torch.tensor([0.0, 5 * distance - 3.5]))
    return TorchModel(network, Task("classification", ("healthy", "ill")), BOUNDS)


def greys(count, label=1):
    return Batch(ids(count), torch.full((count, 1, 2, 2), 0.5), torch.full((count,), label))


def most_by_chance(count, alpha):
    return stats.binom.ppf(1 - 1e-5, count, alpha)


@pytest.mark.parametrize("distance", [0.03, 0.2, 0.4])
def test_a_radius_exceeds_the_true_one_no_more_often_than_alpha_allows(distance):
    certifier = Smoothing(SIGMA, samples=150, selection=20, alpha=0.1)
    found = run(certifier, linear(distance), greys(200))["radius"]
    exceeding = int((found > distance).sum())
    assert exceeding <= most_by_chance(200, 0.1)
    # The discrete limit comes near its level, so that a limit at twice it would be noticed.
    assert exceeding >= stats.binom.ppf(1e-5, 200, 0.05)


def test_radii_come_close_to_the_true_one_with_many_samples():
    found = run(Smoothing(SIGMA, samples=20_000), linear(0.3), greys(2))["radius"]
    assert (found < 0.3).all()
    assert (found > 0.28).all()


def test_a_ball_that_reaches_beyond_the_border_is_certified_no_more_often_than_alpha():
    certifier = Smoothing(SIGMA, samples=150, selection=20, alpha=0.1)
    beyond = run(certifier, linear(0.2), greys(200), Ball("l2", 0.2000001, BOUNDS))
    assert beyond["certified"].sum() <= most_by_chance(200, 0.1)
    within = run(certifier, linear(0.2), greys(200), Ball("l2", 0.1, BOUNDS))
    assert within["certified"].mean() > 0.9
    assert within["falsified"].sum() == 0


def test_on_the_border_it_abstains():
    certifier = Smoothing(SIGMA, samples=150, selection=20, alpha=0.05)
    found = run(certifier, linear(0.0), greys(200))
    assert found["abstained"].sum() >= 200 - most_by_chance(200, 0.05)
    assert torch.equal(found["undecided"], found["abstained"])
    assert not found["radius"][found["abstained"] > 0].any()


def test_a_smoothed_answer_that_is_wrong_is_falsified():
    found = run(Smoothing(SIGMA), linear(0.4), greys(3, label=0))
    assert found["falsified"].tolist() == [1, 1, 1]
    assert found["radius"].tolist() == [0, 0, 0]
    assert found["certified"].tolist() == found["undecided"].tolist() == [0, 0, 0]


def test_the_smoothed_answer_may_differ_from_the_models_own():
    class Spike(nn.Module):
        """Answers 1 within a hair of grey, 0 everywhere else."""

        def forward(self, image):
            near = ((image - 0.5).abs().amax(dim=(1, 2, 3)) < 1e-3).float()
            return torch.stack([1 - near, near], dim=1)

    model = TorchModel(Spike(), Task("classification", ("a", "b")), BOUNDS)
    assert model(greys(1).image).argmax() == 1
    assert run(Smoothing(SIGMA), model, greys(1))["falsified"].item() == 1


@dataclass(frozen=True)
class PerPixel:
    """Class 1 where a pixel exceeds one half; each pixel for itself."""

    task: Task = Task("segmentation", ("out", "in"))  # noqa: RUF009
    bounds: tuple[float, float] = BOUNDS

    def __call__(self, image, context=None):
        return torch.cat([0.5 - image, image - 0.5], dim=1)


class Shared(PerPixel):
    """Every pixel answers for the first one: tests that stand and fall together."""

    def __call__(self, image, context=None):
        return super().__call__(image[..., :1, :1].expand_as(image))


def brightened(distances, count, label=1):
    """Cases whose pixels lie at given distances from the border, `(h, w)`."""
    image = (0.5 + torch.as_tensor(distances, dtype=torch.float32)).expand(count, 1, -1, -1)
    return Batch(ids(count), image, torch.full((count, *image.shape[2:]), label))


@pytest.mark.parametrize("model", [PerPixel(), Shared()], ids=["apart", "together"])
@pytest.mark.parametrize("correction", ["holm", "bonferroni"])
@pytest.mark.parametrize("tau", [None, 0.75])
def test_a_case_has_any_wrong_pixel_no_more_often_than_alpha_allows(tau, correction, model):
    """All pixels just short of what is needed: at worst, and without correction nearly certain."""
    radius = SIGMA * float(stats.norm.ppf(0.75))
    certifier = Smoothing(SIGMA, 150, 20, 0.2, tau, correction)
    batch = brightened(np.full((4, 4), radius - 1e-6), 120)
    found = run(certifier, model, batch, Ball("l2", radius - 1e-7, BOUNDS))
    assert (found["certified"] > 0).sum() <= most_by_chance(120, 0.2)
    assert found["falsified"].sum() == 0


def test_without_a_correction_the_joint_error_would_be_larger():
    """The simulation above can fail."""
    rounds = np.random.default_rng(0).binomial(150, 0.75, size=(120, 16))
    assert (p_values(rounds, 150, 0.75) <= 0.2).any(axis=1).sum() > most_by_chance(120, 0.2)


def test_pixels_are_certified_wrong_or_abstain_by_their_distance():
    distances = np.array([[0.6, 0.6, 0.0], [-0.6, 0.1, 0.6]])
    found = run(Smoothing(SIGMA), PerPixel(), brightened(distances, 2), Ball("l2", 0.2, BOUNDS))
    assert found["certified"].tolist() == pytest.approx([3 / 6] * 2)
    assert found["falsified"].tolist() == pytest.approx([1 / 6] * 2)
    assert found["abstained"].tolist() == found["undecided"].tolist() == pytest.approx([2 / 6] * 2)
    assert found["radius"].tolist() == pytest.approx([0.2] * 2)
    loose = Smoothing(SIGMA, samples=5000, tau=0.6)
    found = run(loose, PerPixel(), brightened(distances, 1), Ball("l2", 0.2, BOUNDS))
    assert found["certified"].item() == 0  # its radius is 0.063
    assert found["abstained"].item() == pytest.approx(1 / 6)
    assert found["undecided"].item() == pytest.approx(5 / 6)


def test_holm_certifies_more_pixels_than_bonferroni_and_none_less():
    distances = np.linspace(0.01, 0.1, 64).reshape(8, 8)
    shares = [
        run(Smoothing(SIGMA, correction=one), PerPixel(), brightened(distances, 3))["certified"]
        for one in ("holm", "bonferroni")
    ]
    assert (shares[0] >= shares[1]).all()
    assert (shares[0] > shares[1]).any()


@pytest.mark.parametrize("seed", range(8))
def test_corrections_are_those_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p = rng.choice([0.001, 0.01, 0.02, 0.1, *rng.random(4) ** 4], size=rng.integers(1, 25))
    for ours, theirs in ((holm, "holm"), (bonferroni, "bonferroni")):
        adjusted = multipletests(p, 0.1, method=theirs)[1]
        clear = np.abs(adjusted - 0.1) > 1e-9
        assert (ours(p, 0.1) == (adjusted <= 0.1))[clear].all()


@settings(max_examples=60)
@given(st.integers(1, 400), st.data())
def test_limits_and_p_values_are_the_exact_ones(trials, data):
    successes = data.draw(st.integers(0, trials))
    share, alpha = data.draw(st.floats(0.01, 0.99)), data.draw(st.floats(0.001, 0.5))
    exact = stats.binomtest(successes, trials, share, alternative="greater")
    p = float(p_values(successes, trials, share))
    assert p == pytest.approx(exact.pvalue, rel=1e-9, abs=1e-300)
    low = lower_limit(successes, trials, alpha)
    assert low == pytest.approx(exact.proportion_ci(1 - alpha, method="exact").low, abs=1e-9)
    if abs(p - alpha) > 1e-9:
        assert (p <= alpha) == (low >= share)


@dataclass
class Watched:
    """A linear segmenter or classifier that keeps what it was shown."""

    model: object
    seen: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, image, context=None):
        self.seen.append((image.clone(), dict(context or {})))
        return self.model(image, context)


def test_noise_is_gaussian_unclamped_and_drawn_twice():
    model = Watched(linear(0.4))
    run(Smoothing(0.5, samples=600, selection=600), model, greys(1))
    noise = (torch.cat([image for image, _ in model.seen]) - 0.5) / 0.5
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-4
    assert ((0.5 + 0.5 * noise) < 0).any()
    assert not torch.equal(noise[:600], noise[600:])


def test_answers_do_not_depend_on_how_many_images_are_held(monkeypatch):
    wanted = run(Smoothing(SIGMA), PerPixel(), brightened(np.full((3, 3), 0.1), 2))
    monkeypatch.setattr(votes, "AT_ONCE", 7)
    model = Watched(PerPixel())
    found = run(Smoothing(SIGMA), model, brightened(np.full((3, 3), 0.1), 2))
    assert max(len(image) for image, _ in model.seen) == 7
    assert sum(len(image) for image, _ in model.seen) == 2 * 1100
    for name, values in wanted.items():
        assert torch.equal(found[name], values)


def test_large_images_are_held_one_at_a_time(monkeypatch):
    monkeypatch.setattr(votes, "VOXELS", 10)
    model = Watched(PerPixel())
    run(Smoothing(SIGMA, 5, 5), model, brightened(np.full((4, 4), 0.1), 1))
    assert {len(image) for image, _ in model.seen} == {1}


def test_context_reaches_the_model_once_for_each_noisy_image():
    model = Watched(linear(0.4))
    batch = greys(2)
    batch = Batch(batch.case_ids, batch.image, batch.target, {"mask": torch.tensor([[1.0], [2.0]])})
    run(Smoothing(SIGMA, 30, 10), model, batch)
    for image, context in model.seen:
        assert context["mask"].shape == (len(image), 1)
    assert {float(context["mask"][0]) for _, context in model.seen} == {1.0, 2.0}


def test_an_linf_ball_counts_as_the_l2_ball_around_it():
    """Of 4 voxels, or of the 2 that may change."""
    certifier, model = Smoothing(SIGMA, samples=20_000), linear(0.3)
    assert run(certifier, model, greys(1), Ball("linf", 0.14, BOUNDS))["certified"].item() == 1
    assert run(certifier, model, greys(1), Ball("linf", 0.16, BOUNDS))["certified"].item() == 0
    batch = greys(1)
    free = {"free": torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)}
    batch = Batch(batch.case_ids, batch.image, batch.target, free)
    for eps, expected in ((0.19, 1), (0.22, 0)):
        ball = Ball("linf", eps, BOUNDS, support="free")
        assert run(certifier, model, batch, ball)["certified"].item() == expected
    with pytest.raises(InputError, match="needs 'free' in the case's context"):
        run(certifier, model, greys(1), Ball("linf", 0.1, BOUNDS, support="free"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma": 0}, "sigma must be finite and above 0, got 0"),
        ({"sigma": math.nan}, "sigma must be"),
        ({"samples": 0}, "samples must be a whole number from 1, got 0"),
        ({"selection": 2.5}, "selection must be a whole number from 1, got 2.5"),
        ({"alpha": 1}, "alpha must lie between 0 and 1, got 1"),
        ({"tau": 0.4}, "tau must be at least 0.5 and below 1, got 0.4"),
        ({"correction": "none"}, "correction must be holm or bonferroni, got 'none'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Smoothing(**settings)


def flags():
    return TorchModel(nn.Flatten(), Task("multilabel", tuple("abcd")), BOUNDS)


@pytest.mark.parametrize(
    ("model", "ball", "words"),
    [
        (linear(0.1), Ball("l1", 0.1, BOUNDS), "an l2 ball of the same radius holds it"),
        (flags(), NOTHING, "classification or segmentation, got multilabel"),
    ],
)
def test_what_it_cannot_speak_of_is_unsupported(model, ball, words):
    with pytest.raises(UnsupportedError, match=words):
        run(Smoothing(), model, greys(1), ball)


def test_it_is_never_taken_for_a_proof():
    assert SMOOTHING in STATISTICAL
    assert certified("smoothing-wide", Smoothing(0.5), NOTHING).name.startswith(STATISTICAL)
    with pytest.raises(InputError, match=r"'crown': Smoothing proves nothing.*call it smoothing"):
        certified("crown", Smoothing(), NOTHING)
    with pytest.raises(InputError, match="certifier must be one that proves"):
        CertifiedSurvivors("smoothing")


def test_a_network_in_training_mode_is_refused():
    model = linear(0.1)
    model.network.train()
    with pytest.raises(UnsupportedError, match="training mode"):
        run(Smoothing(), model, greys(1))


def test_cases_that_cannot_be_scored_say_why():
    batch = greys(1)
    dark = Batch(batch.case_ids, batch.image * math.nan, batch.target)
    with pytest.raises(CaseError, match="the image is not finite"):
        run(Smoothing(), linear(0.1), dark)
    with pytest.raises(CaseError, match="holds class 2, the model has 2"):
        run(Smoothing(), linear(0.1), greys(1, label=2))
    with pytest.raises(CaseError, match=r"must be \(2, 2\), got \(\)"):
        run(Smoothing(), PerPixel(), greys(1))
    broken = linear(math.nan)
    with pytest.raises(CaseError, match="not finite under noise"):
        run(Smoothing(), broken, greys(1))
