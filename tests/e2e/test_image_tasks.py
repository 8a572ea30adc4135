"""Reconstruction and super-resolution from a plan: probes of k-space, infinite bounds, a report."""

import json
import sys
import tomllib

import pytest
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med.cli import main
from robustbench_med.errors import InputError
from robustbench_med.physics.coils import adjoint, forward
from robustbench_med.physics.fourier import to_channels, to_complex
from robustbench_med.plan import parse_plan
from robustbench_med.questions import _ball

FREE = (-float("inf"), float("inf"))
MODULE = """
import math

import torch
import robustbench_med as rb
from tests_image_tasks import measured, Adjoint


def cohort(split="test"):
    return measured()


def load():
    return Adjoint()
"""
PLAN = """
name = "kspace"
seed = 3
cohort = { use = "image_study:cohort" }
model = { use = "image_study:load" }
metrics = [{ use = "nmse" }]

[[attack]]
use = "fgsm"
ball = { norm = "linf", eps = 2, unit = "noise", support = "mask" }

[[attack]]
use = "pgd"
steps = 5
random_start = false
ball = { norm = "l2", eps = [0.01, 0.02], unit = "fraction", support = "mask" }

[[attack]]
use = "fgsm"
name = "free"
ball = { norm = "linf", eps = 3 }

[[shift]]
use = "acceleration"
severities = [0, 1, 2]

[[shift]]
use = "kspace_noise"
severities = [1]

[[shift]]
use = "motion"
severities = [2]

[[shift]]
use = "resolution"
severities = [1]
"""


class Adjoint(nn.Module):
    """The zero-filled image; needs the mask, and the maps of several coils."""

    def forward(self, image, context):
        maps = to_complex(context["maps"]) if "maps" in context else None
        return to_channels(adjoint(to_complex(image), maps, context["mask"])[:, None])


def measured(cases=24, size=(24, 16), drop=None):
    """A cohort of bright ovals, measured with two coils on every other line and the middle."""
    stream = torch.Generator().manual_seed(2)
    made = []
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    phase = torch.polar(torch.ones(size), 0.5 * x)
    mask = torch.zeros(1, *size)
    mask[:, ::2] = 1
    mask[:, 8:16] = 1
    maps = torch.stack([torch.cos(x) + 0j, 1j * torch.sin(x)])
    for i in range(cases):
        truth = ((x / 0.6) ** 2 + (y / (0.5 + 0.03 * i)) ** 2 < 1) * phase
        kspace = forward(truth[None], maps[None], mask[None])[0]
        noise = 0.02 * torch.randn(4, *size, generator=stream)
        context = {"mask": mask, "maps": to_channels(maps[None])[0]}
        context |= {"noise": torch.tensor(0.02), "spacing": torch.tensor([8.0, 1.5, 1.5])}
        context.pop(drop, None)
        image = to_channels(kspace[None])[0] + mask * noise
        target = to_channels(truth[None, None])[0]
        made.append(rb.Case(f"c{i}", f"p{i}", image, target, context))
    return rb.Cohort("ovals", rb.Task("reconstruction"), FREE, made)


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "image_study.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "tests_image_tasks", sys.modules[__name__])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("image_study", None)


def test_a_plan_of_kspace_probes_runs_to_its_report(study, capsys):
    assert main(["run", "plan.toml", "--out", "runs/k", "--quiet"]) == 0
    run = rb.Run.open("runs/k")
    overall = run.estimates.query("group == 'all' and metric == 'nmse'").set_index("probe")["value"]
    assert overall["acceleration@0"] == overall["clean"]
    order = ["clean", "pgd[l2<=0.01 of norm on mask]", "pgd[l2<=0.02 of norm on mask]"]
    assert overall[order].is_monotonic_increasing
    assert overall["acceleration@2"] > overall["acceleration@1"] > overall["clean"]
    probes = ["fgsm[linf<=2 sigma on mask]", "free[linf<=3]", "kspace_noise@1", "motion@2",
              "resolution@1"]  # fmt: skip
    assert (overall[probes] > overall["clean"]).all()
    assert run.records["value"].notna().all()
    page = (study / "runs/k/report.html").read_text(encoding="utf-8")
    assert "l2&lt;=0.02 of norm on mask" in page or "l2<=0.02 of norm on mask" in page
    assert "legal intensities -inf to inf" in page


def test_a_manifest_of_infinite_bounds_is_json_to_every_reader(study):
    def refuse(name):
        raise AssertionError(name)

    assert main(["run", "plan.toml", "--out", "runs/k", "--quiet"]) == 0
    text = (study / "runs/k/manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text, parse_constant=refuse)
    assert [float(limit) for limit in manifest["bounds"]] == [*FREE]
    assert main(["run", "plan.toml", "--out", "runs/k", "--quiet"]) == 0


def test_a_mask_that_the_cases_lack_is_told_in_one_line(study, capsys):
    cohort = measured(drop="mask")
    ball = rb.Ball("l2", 0.01, unit="fraction", support="mask")
    flat = rb.TorchModel(nn.Conv2d(4, 2, 1), cohort.task, FREE)
    probe = rb.attacked(
        "pgd", rb.build("attacks", "pgd"), ball, {"nmse": rb.build("metrics", "nmse")}
    )
    with pytest.raises(
        InputError, match="needs 'mask' in the case's context, which has"
    ) as refused:
        list(rb.evaluate(flat, cohort, [probe]))
    assert "\n" not in str(refused.value)


def test_the_range_of_a_ball_is_only_checked_where_there_is_one(study):
    plan = parse_plan(tomllib.loads(PLAN), study / "plan.toml")
    tables = [table for asked in plan.attacks for table in asked.levels]
    balls = [_ball(table, "x", measured(1)) for table in tables]
    assert [str(ball) for ball in balls] == [
        "linf<=2 sigma on mask", "l2<=0.01 of norm on mask", "l2<=0.02 of norm on mask", "linf<=3",
    ]  # fmt: skip
    assert all(ball.bounds == FREE for ball in balls)


class Wider(nn.Module):
    """Five times the slices and twice the rows and columns, or other factors."""

    def __init__(self, factors=(5, 2, 2)):
        super().__init__()
        self.grow = nn.Upsample(scale_factor=factors)

    def forward(self, image):
        return self.grow(image)


def stacks():
    stream = torch.Generator().manual_seed(0)
    targets = torch.rand(3, 1, 10, 8, 12, generator=stream)
    images = nn.functional.avg_pool3d(targets, (5, 2, 2))
    cases = [rb.Case(f"c{i}", f"p{i}", images[i], targets[i]) for i in range(3)]
    return rb.Cohort("stacks", rb.Task("super_resolution"), (0, 1), cases)


def asked(network, cohort):
    model = rb.TorchModel(network, cohort.task, cohort.bounds)
    metrics = {"nmse": rb.build("metrics", "nmse")}
    ball = rb.Ball("linf", 0.05, cohort.bounds)
    pgd, blur = rb.build("attacks", "pgd", steps=3), rb.build("shifts", "blur")
    probes = [
        rb.clean(metrics),
        rb.attacked("pgd", pgd, ball, metrics),
        rb.shifted("blur", blur, 1.0, metrics),
    ]
    values = {}
    for record in rb.evaluate(model, cohort, probes):
        values.setdefault(record.probe, []).append(record.value)
    return values


def test_super_resolution_may_answer_on_a_larger_grid_than_it_was_given():
    values = asked(Wider(), stacks())
    for clean, found in zip(values["clean"], values["pgd[linf<=0.05]"], strict=True):
        assert found > clean > 0
    assert min(values["blur@1"]) > 0


@pytest.mark.parametrize(
    ("network", "cohort", "message"),
    [
        (Wider((5, 2, 1)), stacks(), r"\(1, 1, 10, 8, 12\) .*got \(1, 1, 10, 8, 6\)"),
        (nn.Identity(), measured(2), r"\(1, 2, 24, 16\) .*\(1, 4, 24, 16\).*got \(1, 4, 24, 16\)"),
        (nn.Flatten(), measured(2), r"got \(1, 1536\)"),
    ],
    ids=["too narrow", "k-space for an image", "flat"],
)  # fmt: skip
def test_a_model_whose_images_have_another_shape_is_refused_in_one_line(network, cohort, message):
    with pytest.raises(InputError, match=message) as refused:
        asked(network, cohort)
    assert "\n" not in str(refused.value)
    assert "0 classes" not in str(refused.value)


def test_a_model_that_lacks_its_context_is_told_which_case():
    with pytest.raises(InputError, match="cannot answer case 'c0' with image") as refused:
        asked(nn.Conv2d(3, 2, 1), measured(2))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (
            torch.full((2, 24, 16), float("nan")),
            "case 'bad', target: expected finite values, got nan",
        ),
        (torch.zeros(2, 24, 16, dtype=torch.complex64), "case 'bad': target must be real channels"),
    ],
)
def test_a_truth_that_no_image_can_be_compared_with_is_named(spoilt, message):
    good = measured(2)
    cases = [*good.cases, rb.Case("bad", "p", good.cases[0].image, spoilt, good.cases[0].context)]
    cohort = rb.Cohort("x", good.task, FREE, cases)
    model = rb.TorchModel(Adjoint(), cohort.task, FREE)
    probes = [rb.clean({"nmse": rb.build("metrics", "nmse")})]
    with pytest.raises(InputError, match=message):
        list(rb.evaluate(model, cohort, probes, batch_size=1))


def test_samples_of_any_size_are_legal_and_those_that_are_not_finite_are_named():
    good = measured(1)
    huge = rb.Case("huge", "p", good.cases[0].image * 1e6, good.cases[0].target,
                   good.cases[0].context)  # fmt: skip
    model = rb.TorchModel(Adjoint(), good.task, FREE)
    probes = [rb.clean({"nmse": rb.build("metrics", "nmse")})]
    (record,) = rb.evaluate(model, rb.Cohort("x", good.task, FREE, [huge]), probes)
    assert record.value > 1
    broken = rb.Case("broken", "p", good.cases[0].image / 0, good.cases[0].target,
                     good.cases[0].context)  # fmt: skip
    with pytest.raises(InputError, match="case 'broken', image: expected finite voxels"):
        list(rb.evaluate(model, rb.Cohort("x", good.task, FREE, [broken]), probes))
