"""Plans that are wrong: every mistake is told in one line, and nothing is computed."""

import pytest

import robustbench_med as rb

PGD_BALL = 'ball = { norm = "linf", eps = [0.02, 0.05] }'
IBP_BALL = 'ball = { norm = "linf", eps = 0.02 }'
CORRECT = '[[metrics]]\nuse = "correct"'
MODEL = 'use = "study_model:load"'
SPLITS = 'splits = { train = 0.5, val = 0.2, test = 0.3 }\nsplit = "test"'
TRAIN = "\n[train]\nepochs = 1\n\n"

# What the plan's own text shows to be wrong: what to change, and the one line it must give.
IN_THE_PLAN = {
    "an unknown key": (
        "seed = 3", "sede = 3", "plan.toml: unknown key 'sede'; did you mean 'seed'?",
    ),
    "a misspelt attack": (
        'use = "pgd"', 'use = "pdg"', "plan.toml: attack 1: attacks: no 'pdg'; did you mean 'pgd'?",
    ),
    "a misspelt certifier": (
        'use = "ibp"', 'use = "ibpp"', "certificate 1: certifiers: no 'ibpp'; did you mean 'ibp'?",
    ),
    "a misspelt cohort": (
        'use = "folder"', 'use = "fodler"', "cohort: cohorts: no 'fodler'; did you mean 'folder'?",
    ),
    "a misspelt setting": (
        "steps = 5", "stesp = 5", ("attack 1: attacks: pgd has no setting 'stesp'; "
        "did you mean 'steps'?"),
    ),
    "a setting out of range": (
        "steps = 5", "steps = 0", "attack 1: pgd: steps must be a whole number, at least 1, got 0",
    ),
    "a negative eps": (
        IBP_BALL, IBP_BALL.replace("0.02", "-0.02"),
        "certificate 1: ball: eps must be finite and at least 0, got -0.02",
    ),
    "a negative eps in a list": (
        "[0.02, 0.05]", "[0.02, -0.05]",
        "attack 1: ball: eps must be finite and at least 0, got -0.05",
    ),
    "an eps that is NaN": ("[0.02, 0.05]", "nan", "eps must be finite and at least 0, got nan"),
    "an eps that is a text": ("[0.02, 0.05]", '["8/255"]', "eps must be a number, got '8/255'"),
    "an empty list of eps": (
        "[0.02, 0.05]", "[]", "attack 1: ball: eps: expected at least one number, got []",
    ),
    "no eps": (PGD_BALL, 'ball = { norm = "linf" }', "attack 1: ball: eps is missing"),
    "no ball": (PGD_BALL, "", "attack 1: [ball] is missing"),
    "an unknown norm": (
        '"linf", eps = [', '"l_inf", eps = [', "norm must be one of linf, l2, l1, got 'l_inf'",
    ),
    "a negative severity": (
        "severities = [1]", "severities = [1, -1]",
        "shift 1: severities: expected a list of numbers from 0 to 5 for gamma, got [1, -1]",
    ),
    "a severity above 5": (
        "severities = [1]", "severities = [1, 5.5]",
        "shift 1: severities: expected a list of numbers from 0 to 5 for gamma, got [1, 5.5]",
    ),
    "a label that is no class": (
        CORRECT, '[[metrics]]\nuse = "dice"\nlabel = [1]',
        "metrics 1: label: expected the name or index of a class, got [1]",
    ),
    "one table for a list": (
        "[[metrics]]", "[metrics]", "metrics: expected a list of tables, each under [[metrics]]",
    ),
    "no model": (f"[model]\n{MODEL}", "", "plan.toml: [model] is missing"),
    "no batch": ("seed = 3", "batch_size = 0", "batch_size: expected a whole number of at least 1"),
    "an unsafe name": (
        '"squares"', '"../squares"', "name: expected letters, digits, '.', '_' and '-' only",
    ),
    "a variable that is not set": (
        '"data"', '"${RBMED_NO_SUCH_FOLDER}/x"',
        ("cohort: folder: environment variable RBMED_NO_SUCH_FOLDER is not set; "
        "set it to what stands for it in '${RBMED_NO_SUCH_FOLDER}/x'"),
    ),
    "a tolerance that is a text": (
        CORRECT, f'{CORRECT}\ntolerance = "0.7"',
        "metrics 1: tolerance: expected a finite number, got '0.7'",
    ),
    "a misspelt tolerance": (
        CORRECT, f"{CORRECT}\ntolerence = 0.7", "metrics: correct has no setting 'tolerence'",
    ),
    "attributes to explore that are no list": (
        "seed = 3", 'explore = "sex"',
        "plan.toml: explore: expected a list of names of attributes, got 'sex'",
    ),
    "an attribute to explore named twice": (
        "seed = 3", 'explore = ["sex", "site", "sex"]', "explore: 'sex' is there 2 times",
    ),
    "a split held against no split": (
        "seed = 3", 'against = "train"',
        "against: all cases are tested; name the tested ones: split, in [cohort]",
    ),
    "a split held against itself": (
        "[cohort]", f'against = "test"\n\n[cohort]\n{SPLITS}',
        "against: 'test' is the split that is tested; name another",
    ),
    "a threshold from no rule": (
        "[cohort]", f"[calibrate]\nsplit = 'val'\n{TRAIN}[cohort]\n{SPLITS}",
        "calibrate: expected exactly one of sensitivity and specificity, got neither",
    ),
    "a threshold from two rules": (
        "[cohort]",
        (
            "[calibrate]\nsplit = 'val'\nsensitivity = 0.9\nspecificity = 0.9\n"
            f"{TRAIN}[cohort]\n{SPLITS}"
        ),
        "calibrate: expected exactly one of sensitivity and specificity, got both",
    ),
    "a threshold that must find everything": (
        "[cohort]",
        f"[calibrate]\nsplit = 'val'\nsensitivity = 1.0\n{TRAIN}[cohort]\n{SPLITS}",
        "calibrate: expected a sensitivity or specificity over 0 and under 1, got 1.0",
    ),
    "a threshold from the tested split": (
        "[cohort]",
        f"[calibrate]\nsplit = 'test'\nsensitivity = 0.9\n{TRAIN}[cohort]\n{SPLITS}",
        "calibrate: split: 'test' is tested: a threshold chosen on it flatters; name another",
    ),
    "a threshold from the training split": (
        "[cohort]",
        f"[calibrate]\nsplit = 'train'\nsensitivity = 0.9\n{TRAIN}[cohort]\n{SPLITS}",
        "calibrate: split: 'train' is trained on: its cases fit too well; name another",
    ),
    "a threshold without training": (
        "[cohort]", f"[calibrate]\nsplit = 'val'\nspecificity = 0.9\n\n[cohort]\n{SPLITS}",
        "calibrate: [train] is missing: rbmed train is what fixes the threshold",
    ),
    "a misspelt rule of a threshold": (
        "[cohort]",
        f"[calibrate]\nsplit = 'val'\nsensitivty = 0.9\n{TRAIN}[cohort]\n{SPLITS}",
        "calibrate: unknown key 'sensitivty'; did you mean 'sensitivity'?",
    ),
    "no TOML": ("seed = 3", "seed = = 3", ("plan.toml: cannot be read as TOML: Invalid value "
                "(at line 3, column 8)")),
    "a policy that is not there": (
        "seed = 3", 'policy = "no.toml"', "no.toml: cannot be read: No such file or directory",
    ),
}  # fmt: skip

# What shows only beside the data.
BESIDE_THE_DATA = {
    "an unknown metric label": (
        CORRECT, '[[metrics]]\nuse = "dice"\nlabel = "brihgt"',
        "metrics: dice: no class 'brihgt'; did you mean 'bright'?",
    ),
    "a label beyond the classes": (
        CORRECT, '[[metrics]]\nuse = "dice"\nlabel = 7',
        "metrics: dice: label must be 0 to 1, got 7",
    ),
    "two metrics of one name": (
        CORRECT, f"{CORRECT}\n{CORRECT}", "metrics: 'correct' is there twice; give one a name",
    ),
    "two probes of one name": (
        "[[shift]]", f'[[attack]]\nuse = "pgd"\nsteps = 2\n{IBP_BALL}\n\n[[shift]]',
        "probes: names must differ, got twice: pgd[linf<=0.02]; name them",
    ),
    "an eps given twice": (
        "[0.02, 0.05]", "[0.05, 0.05]", "names must differ, got twice: pgd[linf<=0.05]",
    ),
    "a subgroup that does not exist": (
        'subgroups = ["sex"]', 'subgroups = [["sex", "siet"]]',
        "subgroups: the cohort has no attribute 'siet'; did you mean 'site'?",
    ),
    "an attribute to explore that does not exist": (
        "seed = 3", 'explore = ["sxe"]',
        "explore: the cohort has no attribute 'sxe'; did you mean 'sex'?",
    ),
    "a split to hold against that does not exist": (
        "[cohort]", f'against = "trian"\n\n[cohort]\n{SPLITS}',
        "against: split: no 'trian'; did you mean 'train'?",
    ),
    "a column that does not exist": (
        '"patient_id"', '"patientid"', "has no column 'patientid'; did you mean 'patient_id'?",
    ),
    "weights that are not there": (
        MODEL, 'use = "lenet"\npreset = "small"\nweights = "w.safetensors"',
        "w.safetensors: not there; if the plan has [train]: rbmed train PLAN",
    ),
    "an ONNX file that is not there": (
        MODEL, 'use = "m.onnx"', "m.onnx: expected an ONNX file, found none",
    ),
    "a function that is not there": (
        MODEL, 'use = "study_model:laod"', "cannot load 'study_model:laod'",
    ),
    "a module that is not there": (
        MODEL, 'use = "stduy_model:load"', "No module named 'stduy_model'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", IN_THE_PLAN)
def test_a_mistake_in_the_plan_is_one_line_from_every_door(study, mistake):
    old, new, line = IN_THE_PLAN[mistake]
    study.edit(old, new)
    with pytest.raises(rb.errors.InputError) as refusal:
        rb.load_plan(study.plan)
    (said,) = str(refusal.value).splitlines()
    assert line in said
    assert "plan.toml: " in said
    assert study.refused(2, "check", study.plan) == [f"rbmed: {said}"]
    assert study.refused_run() == [f"rbmed: {said}"]
    assert not (study.folder / "run").exists()


@pytest.mark.parametrize("mistake", BESIDE_THE_DATA)
def test_a_mistake_that_the_data_shows_is_one_line(study, mistake):
    old, new, line = BESIDE_THE_DATA[mistake]
    study.edit(old, new)
    (said,) = study.refused(2, "check", study.plan)
    assert line in said
    assert study.refused_run() == [said]
    assert not (study.folder / "run").exists()


def test_three_mistakes_are_told_at_once(study):
    for old, new in (("seed", "sede"), ('"pgd"', '"pdg"'), ("[1]", "[-1]")):
        study.edit(old, new)
    lines = study.refused(2, "check", study.plan)
    assert len(lines) == 3
    for word in ("'sede'", "'pdg'", "[-1]"):
        assert sum(word in line for line in lines) == 1


def test_all_subgroups_that_do_not_exist_are_told_at_once(study):
    study.edit('["sex"]', '["sexx", ["sex", "siet"]]')
    first, second = study.refused(2, "check", study.plan)
    assert "did you mean 'sex'?" in first
    assert "did you mean 'site'?" in second


def test_a_plan_that_is_not_there_or_no_text_is_named(study):
    missing, rubbish = study.folder / "no.toml", study.folder / "rubbish.toml"
    rubbish.write_bytes(b"\xff\xfe\x00")
    assert study.refused(2, "run", missing) == [f"rbmed: {missing}: no such file"]
    for path in (rubbish, study.folder):
        (line,) = study.refused(2, "run", path)
        assert line.startswith(f"rbmed: {path}: cannot be read as TOML: ")


def test_a_variable_that_is_set_stands_for_its_value(study, monkeypatch):
    study.edit('"data"', '"${RBMED_TEST_PLACE}/data"')
    monkeypatch.setenv("RBMED_TEST_PLACE", str(study.folder))
    code, out, err = study.rbmed("check", study.plan)
    assert (code, err) == (0, "")
    assert "40 cases of 40 patients" in out


def test_a_list_of_eps_is_one_probe_each(study):
    _, out, _ = study.rbmed("check", study.plan)
    assert out.count("pgd[linf<=0.02]") == out.count("pgd[linf<=0.05]") == 1


def test_a_mistake_after_a_run_loses_nothing_of_it(study):
    study.edit_table(lambda lines: lines[:9])
    study.run()
    run = study.folder / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for old, new in (
        ("steps = 5", "steps = 0"),
        ("steps = 0", 'steps = 5\nname = "ibp"'),
        ("eps = [0.02, 0.05]", "eps = [0.02, 0.02]"),
    ):
        study.edit(old, new)
        study.refused_run()
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    study.edit('\nname = "ibp"', "")
    study.edit("eps = [0.02, 0.02]", "eps = [0.02, 0.05, 0.1]")
    assert study.run()[0] == 0
    for path in (run / "records").glob("*.parquet"):
        assert before.pop(path, None) in (None, path.read_bytes())
    assert not [path for path in before if path.parent.name == "records"]


def test_evaluate_refuses_what_the_command_refuses():
    image, target = rb.Case("a", "p", [[[0.5]]], 0).image, 0
    task = rb.Task("classification", ("dark", "bright"))
    cohort = rb.Cohort("one", task, (0, 1), [rb.Case("a", "p", image, target)])

    class Model:
        def __init__(self, task, bounds, width=2):
            self.task, self.bounds, self.width = task, bounds, width

        def __call__(self, image, context=None):
            return image.flatten(1).repeat(1, self.width)

    probe = rb.clean({"correct": rb.build("metrics", "correct")})
    for model, probes, line in (
        (Model(task, (0.0, 1.0)), [probe, probe], "names must differ, got twice: clean"),
        (Model(task, (-1.0, 1.0)), [probe], "disagree on bounds"),
        (Model(rb.Task("regression", ("age",)), (0.0, 1.0)), [probe], "disagree on task"),
        (Model(task, (0.0, 1.0), 3), [probe], r"got \(1, 3\)"),
    ):
        with pytest.raises(rb.errors.InputError, match=line):
            list(rb.evaluate(model, cohort, probes))
    with pytest.raises(rb.errors.InputError, match="severity must be from 0 to 5, got -1"):
        rb.shifted("gamma", rb.build("shifts", "gamma"), -1, {})
    with pytest.raises(rb.errors.UnknownNameError, match="did you mean 'pgd'"):
        rb.build("attacks", "pdg")
    assert len(list(rb.evaluate(Model(task, (0.0, 1.0)), cohort, [probe]))) == 1
