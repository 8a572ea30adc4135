"""Models, attacks and certifiers that misbehave: told, counted, never believed."""

import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import robustbench_med as rb

LOAD = 'use = "study_model:load"'
PGD = 'use = "pgd"\nsteps = 5\nstep_size = 0.5'
FEW = """

class Few(Mean):
    '''Says NaN for images that are brighter than a limit.'''

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, image):
        mean = image.flatten(1).mean(1, keepdim=True)
        return super().forward(image).where(mean < self.limit, float("nan"))


def few(limit):
    return Few(limit)


class Backwards(Few):
    '''Says NaN for images that are darker than the limit.'''

    def forward(self, image):
        mean = image.flatten(1).mean(1, keepdim=True)
        return Mean.forward(self, image).where(mean > self.limit, float("nan"))


def backwards(limit):
    return Backwards(limit)
"""
COMPONENTS = """

from dataclasses import dataclass


@dataclass(frozen=True)
class Claims:
    def __call__(self, model, batch, ball, rng):
        return {"certified": torch.ones(len(batch))}


@dataclass(frozen=True)
class Silent:
    def __call__(self, model, batch, ball, rng):
        return {"proved": torch.ones(len(batch))}


@dataclass(frozen=True)
class Raises:
    def __call__(self, model, batch, ball, rng):
        if "case3" in batch.case_ids:
            raise RuntimeError("no way up\\nand more")
        return batch.image


@dataclass(frozen=True)
class Outside:
    def __call__(self, model, batch, ball, rng):
        return batch.image + 100 * (1 - 2 * batch.target.view(-1, 1, 1, 1))


@dataclass(frozen=True)
class Edge:
    def __call__(self, model, batch, ball, rng):
        return batch.image + ball.eps * (1 - 2 * batch.target.view(-1, 1, 1, 1))


@dataclass(frozen=True)
class Shapeless:
    def __call__(self, model, batch, ball, rng):
        return batch.image.flatten(1)
"""


def brightness(study):
    cohort = rb.build("cohorts", "folder", **rb.load_plan(study.plan).cohort.settings)
    return {case.case_id: float(case.image.mean()) for case in cohort.cases}


def without_certificate(study):
    text = study.plan.read_text(encoding="utf-8")
    study.plan.write_text(text[: text.index("[[certificate]]")], encoding="utf-8")


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (f"{LOAD}\nclasses = 3", ("expected output of shape (1, 2) for images (1, 1, 8, 8) "
                                 "(classification, 2 classes), got (1, 3)")),
        ('use = "study_model:other_bounds"', ("disagree on bounds: the model has (-1.0, 1.0), "
                                             "the cohort has (0.0, 1.0)")),
        ('use = "study_model:nothing"', ("expected finite outputs, got only NaN or infinity "
                                        "for the first 16 cases")),
        (f"{LOAD}\nclases = 3", "no setting 'clases'; did you mean 'classes'?"),
        ('use = "study_model:nn.Linear"\nin_features = 3\nout_features = 2', ("cannot answer case "
                                                                "'case0' with image (1, 8, 8)")),
        ('use = "study_model:PLAIN"\n', "cannot load 'study_model:PLAIN'"),
        ('use = "lenet"', "expected weights = FILE; train it with: rbmed train PLAN"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_one_line(study, model, line):
    study.edit(LOAD, model)
    (said,) = study.refused(2, "check", study.plan)
    assert line in said
    assert study.refused_run() == [said]
    assert not (study.folder / "run").exists()


@pytest.mark.parametrize("written", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_a_checkpoint_that_runs_code_is_refused_and_not_run(study, written):
    class Opens:
        def __reduce__(self):
            return open, (str(study.folder / "it-ran"), "w")

    written({"weight": Opens()}, study.folder / "w.pt")
    study.edit(LOAD, 'use = "lenet"\npreset = "small"\nweights = "w.pt"')
    (said,) = study.refused(2, "check", study.plan)
    assert "w.pt: expected tensors only, got a damaged file or one that runs code" in said
    assert "save with safetensors" in said
    assert not (study.folder / "it-ran").exists()


def test_a_few_answers_of_nan_fail_alone_and_are_counted(study):
    study.edit_model(FEW)
    without_certificate(study)
    study.edit(LOAD, 'use = "study_model:few"\nlimit = 0.61')
    study.edit("seed = 3", "seed = 3\nfailure_limit = 0.5")
    silent = {case_id for case_id, mean in brightness(study).items() if mean >= 0.61}
    assert 0 < len(silent) < 20
    code, out, err = study.run()
    assert (code, err) == (0, "")
    run = study.opened()
    clean = run.failures.query("probe == 'clean'")
    assert set(clean["case_id"]) == silent
    assert set(clean["message"]) == {"the model's output is not finite"}
    values = run.records.query("probe == 'clean'").set_index("case_id")["value"]
    assert set(values.index[values.isna()]) == silent
    overall = run.estimates.query("probe == 'clean' and group == 'all'").iloc[0]
    assert (overall["failed"], overall["cases"]) == (len(silent), 40 - len(silent))
    assert f"{len(run.failures)} answers failed" in out
    assert "the model&#39;s output is not finite" in study.report()
    assert run.manifest["failures"] == len(run.failures)


def test_nan_for_the_very_first_case_does_not_end_a_run(study):
    study.edit_model(FEW)
    without_certificate(study)
    means = brightness(study)
    study.edit(LOAD, f'use = "study_model:backwards"\nlimit = {means["case0"] + 1e-4}')
    study.edit("seed = 3", "seed = 3\nfailure_limit = 0.5")
    assert study.run()[0] == 0
    assert "case0" in set(study.opened().failures["case_id"])


def test_more_failures_than_the_limit_end_with_everything_written(study):
    study.edit_model(FEW)
    without_certificate(study)
    study.edit(LOAD, 'use = "study_model:few"\nlimit = 0.61')
    (said,) = study.refused_run(5)
    assert "of all answers failed, over the limit of 5.0%" in said
    assert "failures.parquet" in said
    run = study.opened()
    assert run.manifest["state"] == "failed"
    assert len(run.records.query("probe == 'clean'")) == 40
    assert len(run.failures) == run.manifest["failures"] > 0
    assert not run.estimates.empty
    assert "over the limit" in study.report()
    (said,) = study.refused(5, "gate", study.folder / "run", study.folder / "policy.toml")
    assert "expected a complete run, this one is failed" in said
    cells = {path.name for path in (study.folder / "run" / "records").iterdir()}
    study.edit("seed = 3", "seed = 3\nfailure_limit = 0.5")
    assert study.run()[0] == 0
    assert {path.name for path in (study.folder / "run" / "records").iterdir()} == cells


def test_a_proof_that_an_attack_breaks_ends_the_run_and_the_gate(study):
    study.edit_model(COMPONENTS)
    study.edit('use = "ibp"', 'use = "study_model:Claims"')
    lines = study.refused_run(4)
    broken = study.opened().records.query("probe == 'pgd[linf<=0.02]' and value == 0")["case_id"]
    assert lines == [
        f"rbmed: case {case_id!r}: Claims[linf<=0.02] proved 1, but pgd[linf<=0.02] left 0 correct"
        for case_id in broken
    ]
    assert study.opened().manifest["state"] == "contradiction"
    assert len(study.opened().records.query("probe == 'clean'")) == 40
    assert "contradict" in study.report()
    (said,) = study.refused(4, "gate", study.folder / "run", study.folder / "policy.toml")
    assert "a proof and an attack contradict each other" in said
    assert study.refused_run(4) == lines
    study.edit('use = "study_model:Claims"', 'use = "ibp"')
    assert study.run()[0] == 0


def test_a_certifier_without_its_answer_is_named(study):
    study.edit_model(COMPONENTS)
    study.edit('use = "ibp"', 'use = "study_model:Silent"')
    (said,) = study.refused_run()
    assert "certifier Silent(): returned no entry 'certified'" in said
    stored = list((study.folder / "run" / "records").glob("*.parquet"))
    assert len(stored) == 4
    study.edit('use = "study_model:Silent"', 'use = "ibp"')
    before = {path: path.read_bytes() for path in stored}
    assert study.run()[0] == 0
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_attack_that_raises_on_one_case_loses_that_case_only(study):
    study.edit_model(COMPONENTS)
    study.edit(PGD, 'use = "study_model:Raises"')
    assert study.run()[0] == 0
    failures = study.opened().failures
    assert set(failures["case_id"]) == {"case3"}
    assert set(failures["probe"]) == {"Raises[linf<=0.02]", "Raises[linf<=0.05]"}
    assert set(failures["error"]) == {"RuntimeError"}
    assert set(failures["message"]) == {"no way up"}
    values = study.opened().records.query("kind == 'attack'").groupby("case_id")["value"]
    assert values.count().to_dict() == {f"case{i}": 0 if i == 3 else 2 for i in range(40)}


def test_images_of_another_shape_fail_by_name(study):
    study.edit_model(COMPONENTS)
    study.edit(PGD, 'use = "study_model:Shapeless"')
    study.refused_run(5)
    failures = study.opened().failures
    assert len(failures) == 80
    assert set(failures["message"]) == {"attack returned shape (1, 64), not the image's"}


def test_an_attack_outside_its_ball_scores_as_its_projection(study):
    study.edit_model(COMPONENTS)
    without_certificate(study)
    study.edit(PGD, 'use = "study_model:Outside"\nname = "one"')
    study.run()
    outside = study.opened().records
    study.edit('use = "study_model:Outside"', 'use = "study_model:Edge"')
    study.run()
    edge = study.opened().records
    assert outside.equals(edge)
    assert 0 < outside.query("probe == 'one[linf<=0.05]'")["value"].mean() < 1


def mean_as_onnx(path):
    """The study's model as a graph: its answer is whether the mean is above a half."""
    weight = np.zeros((64, 2), np.float32)
    weight[:, 1] = 10 / 64
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]),
         helper.make_node("Gemm", ["flat", "w", "b"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 2])],
        [numpy_helper.from_array(weight, "w"),
         numpy_helper.from_array(np.array([0, -5], np.float32), "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def test_an_onnx_model_has_shifts_and_says_why_it_has_no_pgd(study):
    mean_as_onnx(study.folder / "mean.onnx")
    study.edit(LOAD, 'use = "mean.onnx"')
    code, _, err = study.run()
    assert (code, err) == (0, "")
    run = study.opened()
    failures = run.failures.query("kind == 'attack'")
    assert len(failures) == 80
    assert set(failures["error"]) == {"UnsupportedError"}
    assert failures["message"].str.contains("gives no gradients").all()
    assert "gives no gradients" in study.report()
    assert run.records.query("kind == 'attack'")["value"].isna().all()
    assert run.records.query("kind == 'shift'")["value"].notna().all()
    truth = {case_id: float((mean > 0.5) == int(case_id[4:]) % 2)
             for case_id, mean in brightness(study).items()}  # fmt: skip
    clean = run.records.query("probe == 'clean'").set_index("case_id")["value"]
    assert clean.to_dict() == truth
    (study.folder / "mean.onnx").write_bytes(b"rubbish")
    (said,) = study.refused_run()
    assert "mean.onnx: onnxruntime cannot run it; expected a whole ONNX file" in said


def test_autoattack_asks_an_onnx_model_by_square_alone_and_the_report_says_so(study):
    mean_as_onnx(study.folder / "mean.onnx")
    study.edit(LOAD, 'use = "mean.onnx"')
    study.edit(PGD, 'use = "autoattack"')
    code, out, err = study.run()
    assert (code, err) == (0, "")
    run = study.opened()
    attacked = run.records.query("kind == 'attack'")
    assert attacked["value"].notna().all()
    told = run.failures.query("kind == 'attack'")
    assert set(told["error"]) == {"UnsupportedError"}
    assert set(zip(told["case_id"], told["probe"], strict=True)) == set(
        zip(attacked["case_id"], attacked["probe"], strict=True)
    )
    said = "autoattack: only square was run"
    assert said in out
    assert said in study.report()
    estimates = run.estimates.query("subgroup == '' and probe.str.startswith('autoattack')")
    assert (estimates["failed"] == 0).all()
    assert estimates["value"].notna().all()


COUNTS = """

class Counts(Mean):
    '''Adds how often it was asked to one logit.'''

    def __init__(self):
        super().__init__()
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, image):
        self.asked += 1
        return super().forward(image) + self.asked


def counts():
    return Counts()


class Trains(Mean):
    '''Goes back to training mode when it is asked.'''

    def forward(self, image):
        self.train()
        return super().forward(image)


def trains():
    return Trains()
"""


@pytest.mark.parametrize(("name", "what"), [("counts", "asked"), ("trains", "network.training")])
def test_a_model_that_changes_when_it_is_asked_is_refused(study, name, what):
    study.edit_model(COUNTS)
    study.edit("study_model:load", f"study_model:{name}")
    (line,) = study.refused_run()
    assert f"model: answering changed its {what}, so an answer depends on" in line


def test_a_ball_that_reaches_beyond_the_images_is_refused(study):
    study.edit("eps = [0.02, 0.05] }", "eps = 4.0, bounds = [0, 255] }")
    (line,) = study.refused_run()
    assert "pgd: ball: bounds 0 to 255 reach beyond the cohort's intensities, 0 to 1" in line
