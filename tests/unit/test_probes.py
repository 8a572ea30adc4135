"""Probes: the ball is enforced, shifts and metrics are checked, and what is recorded."""

import math
import pickle

import pytest
import torch
from torch import nn

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.random_draws import RandomDraws
from robustbench_med.cases import Batch, Task
from robustbench_med.errors import CaseError, InputError
from robustbench_med.metrics.correct import Correct
from robustbench_med.model import TorchModel
from robustbench_med.plan_fields import Fields
from robustbench_med.probes import attacked, certified, clean, score, shifted
from robustbench_med.searching import searched
from robustbench_med.shifts.gamma import Gamma
from robustbench_med.shifts.rician import Rician
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


class Echo(nn.Module):
    """Two logits: the mean intensity, and one minus it."""

    def forward(self, image):
        mean = image.flatten(start_dim=1).mean(dim=1)
        return torch.stack([mean, 1 - mean], dim=1)


MODEL = TorchModel(Echo(), Task("classification", ("bright", "dark")), (0.0, 1.0))
BATCH = Batch(("a", "b"), torch.tensor([0.9, 0.6]).view(2, 1, 1, 1).expand(2, 1, 4, 4),
              torch.tensor([0, 0]), {"noise": torch.ones(2)})  # fmt: skip
RNG = CaseRng(0, "p", BATCH.case_ids)


def first_logit(output, target):
    return output[:, 0]


def test_an_attack_that_ignores_its_ball_is_pulled_back_into_it():
    def black(model, batch, ball, rng):
        return torch.full_like(batch.image, -100.0)

    values = attacked("black", black, Ball("linf", 0.2, (0.0, 1.0)), {"m": first_logit}).measure(
        MODEL, BATCH, RNG
    )
    torch.testing.assert_close(values["m"], torch.tensor([0.7, 0.4]))


def test_what_an_attack_finds_is_scored_as_it_would_be_stored():
    def darker(model, batch, ball, rng):
        return batch.image - 0.149

    ball = Ball("linf", 0.2, (0.0, 1.0), levels=10)
    probe = attacked("darker", darker, ball, {"m": first_logit})
    assert probe.name == "darker[linf<=0.2 at 10 levels]"
    torch.testing.assert_close(probe.measure(MODEL, BATCH, RNG)["m"], torch.tensor([0.8, 0.5]))


@pytest.mark.parametrize("searched", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [None, 255])
def test_what_a_search_finds_in_another_precision_is_scored_in_the_images_own(
    searched, own, levels
):
    seen = []

    class Noting(Echo):
        def forward(self, image):
            seen.append(image)
            return super().forward(image)

    def rough(model, batch, ball, rng):
        return batch.image.to(searched) - 0.1234567

    model = TorchModel(Noting(), MODEL.task, MODEL.bounds)
    batch = Batch(BATCH.case_ids, BATCH.image.to(own), BATCH.target, BATCH.context)
    ball = Ball("linf", 0.1, (0.0, 1.0), levels=levels)
    values = attacked("rough", rough, ball, {"m": first_logit}).measure(model, batch, RNG)
    assert [image.dtype for image in seen] == [own]
    assert values["m"].dtype == own
    # Back in the ball by the image's own precision, not the search's.
    assert (seen[0] - batch.image).abs().max() <= 0.1 * (1 + 4 * torch.finfo(own).eps) + 1e-7


def test_a_plan_takes_the_levels_of_the_cohorts_own_bounds():
    problems = []
    table = {"ball": {"norm": "linf", "eps": 0.1, "levels": 255}}
    assert Fields(table, "attack 1", problems).balls("ball") == (table["ball"],)
    assert problems == []
    Fields({"ball": table["ball"] | {"levels": 0}}, "attack 1", problems).balls("ball")
    Fields({"ball": table["ball"] | {"bounds": [0.0, math.inf]}}, "x", problems).balls("ball")
    assert "levels must be a whole number" in problems[0]
    assert "needs finite bounds" in problems[1]


def test_an_attack_that_returns_another_shape_fails_its_cases():
    def cropped(model, batch, ball, rng):
        return batch.image[..., :2]

    probe = attacked("cropped", cropped, Ball("linf", 0.1), {"m": first_logit})
    with pytest.raises(CaseError, match="shape"):
        probe.measure(MODEL, BATCH, RNG)


def test_a_shift_is_brought_back_into_the_model_s_bounds():
    def glare(batch, severity, rng):
        return Batch(batch.case_ids, batch.image + severity, batch.target, batch.context)

    values = shifted("glare", glare, 0.2, {"m": first_logit}).measure(MODEL, BATCH, RNG)
    torch.testing.assert_close(values["m"], torch.tensor([1.0, 0.8]))


def test_a_shift_that_renames_cases_or_is_not_finite_fails_its_cases():
    def renamed(batch, severity, rng):
        return Batch(("x", "y"), batch.image, batch.target)

    def broken(batch, severity, rng):
        return Batch(batch.case_ids, batch.image / 0, batch.target)

    for shift, message in ((renamed, "case ids"), (broken, "not finite")):
        with pytest.raises(CaseError, match=message):
            shifted("s", shift, 1.0, {"m": first_logit}).measure(MODEL, BATCH, RNG)


@pytest.mark.parametrize("severity", [-1.0, 5.01, float("nan"), float("inf")])
def test_a_severity_outside_0_to_5_is_refused_by_the_shift_s_name(severity):
    with pytest.raises(InputError, match="shift 'noise': severity must be from 0 to 5, got"):
        shifted("noise", Rician(), severity, {})
    with pytest.raises(InputError, match="shift 'dark': severity must be from 0 to 5, got"):
        searched("dark", RandomDraws(), Gamma(), severity, {})


def test_metrics_get_context_if_they_ask_and_may_return_several_entries():
    def several(output, target, context):
        return {"value": output[:, 0], "noise": context["noise"]}

    values = clean({"m": several, "other": first_logit}).measure(MODEL, BATCH, RNG)
    assert set(values) == {"m", "m.noise", "other"}
    assert torch.equal(values["m"], values["other"])


def test_an_output_that_is_not_finite_fails_instead_of_being_scored():
    model = TorchModel(nn.Flatten(), Task("regression", ("x",)), (0.0, 1.0))
    bad = Batch(("a",), torch.full((1, 1, 2), float("inf")), torch.zeros(1, 2))
    with pytest.raises(CaseError, match="not finite"):
        score(model, bad, {"m": first_logit})


def test_a_certifier_must_say_what_is_certified():
    def silent(model, batch, ball, rng):
        return {"margin": torch.zeros(2)}

    def sure(model, batch, ball, rng):
        return {"certified": torch.ones(2)}

    ball = Ball("linf", 0.1)
    assert certified("sure", sure, ball).measure(MODEL, BATCH, RNG)["certified"].tolist() == [1, 1]
    with pytest.raises(InputError, match="certified"):
        certified("silent", silent, ball).measure(MODEL, BATCH, RNG)


def test_probes_are_named_by_what_they_do_and_describe_and_pickle():
    metrics = {"correct": Correct()}
    probe = attacked("pgd", Pgd(steps=7), Ball("linf", 0.004, (0.0, 1.0)), metrics)
    assert (probe.name, probe.kind, probe.level) == ("pgd[linf<=0.004]", "attack", 0.004)
    assert shifted("rician", Rician(), 2, metrics).name == "rician@2"
    assert clean(metrics).name == "clean"
    copy = pickle.loads(pickle.dumps(probe))  # noqa: S301
    assert copy.spec == probe.spec
    assert "Pgd" in str(probe.spec)
    assert copy.spec != attacked("pgd", Pgd(steps=8), Ball("linf", 0.004, (0.0, 1.0)), metrics).spec
    after = copy.measure(MODEL, BATCH, CaseRng(0, "p", BATCH.case_ids))
    again = probe.measure(MODEL, BATCH, CaseRng(0, "p", BATCH.case_ids))
    assert torch.equal(after["correct"], again["correct"])
