"""The worst of a shift, and then the worst of a small ball around it: closed forms."""

import pickle
from dataclasses import dataclass

import pytest
import torch

from robustbench_med.attacks.fgsm import Fgsm
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.physics import Physics
from robustbench_med.cases import Batch, Task
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.probes import attacked
from robustbench_med.searching import Then, searched, searched_then
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

GAMMA = build("shifts", "gamma", direction="brighter")
METRIC = {"value": lambda output, target: output[:, 0]}
EPS = 0.02


@dataclass(frozen=True)
class Linear:
    """A weighted sum of the image's pixels, `(b, 1)`."""

    weight: torch.Tensor
    task = Task("regression", ("sum",))
    bounds = (0.0, 1.0)

    def __call__(self, image, context=None):
        return (image * self.weight).flatten(1).sum(dim=1, keepdim=True)


def posed(cases=4):
    stream = torch.Generator().manual_seed(7)
    image = torch.rand(cases, 1, 6, 5, generator=stream)
    image[:, 0, 0] = 1.0  # the brightest: gamma leaves it, and the bounds stop the ball there
    weight = torch.randn(6, 5, generator=stream).abs() * torch.tensor([1, 1, 1, -0.1, 1.0])
    return Linear(weight), Batch(tuple("abcd"[:cases]), image, torch.zeros(cases, 1))


def worst(model, batch, severity, eps):
    """Brighter is worse everywhere, and the ball's worst corner is the sign of the weight."""
    shifted = batch.image ** torch.tensor(-0.15 * severity).exp()
    centre = shifted if severity else batch.image
    return model((centre + eps * model.weight.sign()).clamp(0, 1))[:, 0]


def measured(model, batch, severity, ball, attack=None, search=None):
    then = Then("small", attack or Pgd(steps=20), ball)
    probe = searched_then("gamma", search or Physics(24), GAMMA, severity, METRIC, then)
    return probe, probe.measure(model, batch, CaseRng(1, probe.name, batch.case_ids))


def test_of_a_linear_model_both_worsts_are_found_in_turn():
    model, batch = posed()
    probe, values = measured(model, batch, 2.0, Ball("linf", EPS))
    assert probe.name == "gamma_worst+small[linf<=0.02]@2"
    assert (probe.kind, probe.level) == ("shift", 2.0)
    torch.testing.assert_close(values["value"], worst(model, batch, 2.0, EPS), rtol=1e-4, atol=1e-4)
    assert values["found.log_gamma"].tolist() == pytest.approx([-0.3] * 4, abs=1e-4)
    assert (worst(model, batch, 2.0, EPS) > worst(model, batch, 2.0, 0.0) + 0.1).all()


def test_neither_search_nor_attack_is_trusted_to_stay_where_it_may_look():
    """Beyond both, they come back to the box's end and the ball's corner, in the model's bounds."""
    model, batch = posed()

    def far(model, batch, ranges, apply, rng):
        return {name: torch.full((len(batch),), -50.0) for name in ranges}

    def beyond(model, batch, ball, rng):
        assert ball.bounds == model.bounds
        return batch.image + 99 * model.weight.sign()

    for bounds in [(0.0, 1.0), (-5.0, 5.0)]:
        _, values = measured(model, batch, 2.0, Ball("linf", EPS, bounds), beyond, far)
        torch.testing.assert_close(values["value"], worst(model, batch, 2.0, EPS))
        assert values["found.log_gamma"].tolist() == pytest.approx([-0.3] * 4)


def test_severity_0_leaves_the_ball_and_eps_0_the_shift():
    model, batch = posed()
    ball = Ball("linf", EPS, model.bounds)
    _, values = measured(model, batch, 0.0, ball, Fgsm())
    alone = attacked("fgsm", Fgsm(), ball, METRIC).measure(model, batch, CaseRng(1, "f", "abcd"))
    assert torch.equal(values["value"], alone["value"])
    assert values["found.log_gamma"].tolist() == [0.0] * 4
    only = searched("gamma", Physics(24, stages=("sobol",)), GAMMA, 2.0, METRIC)
    found = only.measure(model, batch, CaseRng(3, "same", batch.case_ids))
    then = Then("pgd", Pgd(), Ball("linf", 0.0))
    both = searched_then("gamma", only.measure.search, GAMMA, 2.0, METRIC, then)
    again = both.measure(model, batch, CaseRng(3, "same", batch.case_ids))
    assert {*again} == {*found}
    assert all(torch.equal(again[name], value) for name, value in found.items())


def test_a_ball_as_a_share_of_the_norm_is_measured_on_the_shifted_image():
    model, batch = posed()
    shifted = batch.image ** torch.tensor(-0.3).exp()

    def beyond(model, batch, ball, rng):
        torch.testing.assert_close(batch.image, shifted)
        return 0 * batch.image

    ball = Ball("l2", 0.01, unit="fraction")
    _, values = measured(model, batch, 2.0, ball, beyond)
    # Towards black, which no bound stops, by a hundredth of the shifted image itself.
    torch.testing.assert_close(values["value"], model(0.99 * shifted)[:, 0], rtol=1e-4, atol=1e-4)


def test_a_case_is_answered_alike_alone_and_together_and_the_probe_pickles():
    model, batch = posed()
    probe, together = measured(model, batch, 1.0, Ball("linf", EPS))
    probe = pickle.loads(pickle.dumps(replaced(probe)))  # noqa: S301
    again = probe.measure(model, batch, CaseRng(1, probe.name, batch.case_ids))
    for i in range(len(batch)):
        one = batch[i]
        alone = probe.measure(model, one, CaseRng(1, probe.name, one.case_ids))
        torch.testing.assert_close(alone["found.log_gamma"][0], together["found.log_gamma"][i])
        torch.testing.assert_close(alone["shared"][0], again["shared"][i])


def shared(output, target):
    """A metric that pickles."""
    return output[:, 0] - target[:, 0]


def replaced(probe):
    """The probe with a metric that pickles, and its parts as the manifest will have them."""
    spec = probe.spec["measure"]
    assert spec["searched"]["search"]["budget"] == 24
    assert spec["then"]["ball"]["eps"] == EPS
    made = probe.measure
    found = made.searched
    return searched_then(
        "gamma", found.search, found.shift, found.severity, {"shared": shared}, made.then
    )


def test_a_shift_without_parameters_is_refused_here_too():
    then = Then("pgd", Pgd(), Ball("linf", EPS))
    with pytest.raises(InputError, match="'rician': has no parameters to search"):
        searched_then("rician", Physics(), build("shifts", "rician"), 1.0, METRIC, then)
