"""A plan in, evidence and a verdict out: the command line from end to end."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

import robustbench_med as rb


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_writes_all_that_the_contract_names(study):
    code, out, err = study.run()
    assert (code, err) == (0, "")
    assert "report.html" in out
    assert max(len(line) for line in out.splitlines()[:-1]) <= 80
    folder = study.folder / "run"
    expected = {
        "manifest.json", "cases.parquet", "records.parquet", "failures.parquet",
        "estimates.parquet", "report.html", "summary.md", "junit.xml",
    }  # fmt: skip
    assert expected <= set(files(folder))
    run = rb.Run.open(folder)
    assert list(run.records) == ["case_id", "probe", "kind", "level", "metric", "value"]
    assert list(run.cases)[:3] == ["case_id", "patient_id", "split"]
    assert run.manifest["state"] == "complete"
    stored = pd.concat(pd.read_parquet(path) for path in (folder / "records").glob("*.parquet"))
    assert len(stored) == len(run.records)


def test_the_figures_are_those_of_the_images(study):
    study.run()
    run = rb.Run.open(study.folder / "run")
    plan = rb.load_plan(study.plan)
    cohort = rb.build("cohorts", "folder", **plan.cohort.settings)
    means = {case.case_id: float(case.image.mean()) for case in cohort.cases}
    truth = {case.case_id: bool(case.target) for case in cohort.cases}
    table = run.records.pivot_table(index="case_id", columns=["probe", "metric"], values="value")
    for eps in (0.02, 0.05):
        attacked = table[f"pgd[linf<={eps}]", "correct"]
        for case_id, mean in means.items():
            margin = (mean - 0.5) if truth[case_id] else (0.5 - mean)
            if abs(margin - eps) > 1e-3:
                assert attacked[case_id] == float(margin > eps), case_id
    proved = table["ibp[linf<=0.02]", "certified"]
    assert (table["pgd[linf<=0.02]", "correct"] >= proved).all()
    assert 0 < proved.sum() < len(proved)
    accuracy = run.estimates.query("probe == 'clean' and group == 'all'").iloc[0]
    hits = [(means[c] > 0.5) == truth[c] for c in means]
    assert accuracy["value"] == pytest.approx(np.mean(hits))


def test_missing_attributes_are_a_group_of_their_own(study):
    study.run()
    run = rb.Run.open(study.folder / "run")
    clean = run.estimates.query("probe == 'clean' and subgroup == 'sex'").set_index("group")
    assert set(clean.index) == {"F", "M", "not recorded"}
    assert clean["patients"].sum() == 40
    assert clean.loc["not recorded", "patients"] == 13
    assert (clean["status"] == "not gated").all()


def test_the_same_plan_again_computes_nothing_and_changes_nothing(study):
    study.run()
    before = files(study.folder / "run")
    code, _, _ = study.run()
    assert code == 0
    assert files(study.folder / "run") == before


def test_a_changed_probe_recomputes_only_its_cells(study):
    study.run()
    before = files(study.folder / "run" / "records")
    study.edit("steps = 5", "steps = 6")
    code, _, _ = study.run()
    after = files(study.folder / "run" / "records")
    assert code == 0
    assert len(set(before) & set(after)) == len(before) - 2
    assert all(before[name] == after[name] for name in set(before) & set(after))


def test_the_report_is_a_function_of_the_run_folder(study):
    study.run()
    before = files(study.folder / "run")
    code, out, _ = study.rbmed("report", study.folder / "run")
    assert code == 0
    assert "report.html" in out
    assert files(study.folder / "run") == before


@pytest.mark.parametrize(
    ("floor", "code", "word"), [(0.8, 0, "pass"), (0.97, 3, "undecided"), (1.0, 3, "undecided")]
)
def test_the_gate_decides_by_its_exit_code(study, floor, code, word):
    study.run()
    policy = study.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("floor = 0.9", f"floor = {floor}"))
    found, out, _ = study.rbmed("gate", study.folder / "run", policy)
    assert found == code
    assert word in out.lower()
    assert max(len(line) for line in out.splitlines()) <= 80
    tree = ET.parse(study.folder / "run" / "junit.xml")  # noqa: S314
    assert len(list(tree.iter("testcase"))) == 1


def test_the_gate_fails_where_the_whole_interval_is_below_the_floor(study):
    study.run()
    policy = study.folder / "policy.toml"
    policy.write_text(policy.read_text().replace('"clean"', '"worst[linf<=0.05]"'))
    code, out, _ = study.rbmed("gate", study.folder / "run", policy)
    run = rb.Run.open(study.folder / "run")
    worst = run.estimates.query("probe == 'worst[linf<=0.05]' and group == 'all'").iloc[0]
    assert worst["high"] < 0.9
    assert code == 1
    assert "fail" in out.lower()


def test_results_come_as_json_for_machines(study):
    _, out, _ = study.run("--json")
    assert json.loads(out)["state"] == "complete"
    code, out, _ = study.rbmed("gate", study.folder / "run", study.folder / "policy.toml", "--json")
    assert json.loads(out)["verdict"] == {0: "pass", 3: "undecided"}[code]
    code, out, _ = study.rbmed("check", study.plan, "--json")
    assert json.loads(out)["cases"] == 40
    for kind in ("attacks", "certifiers", "networks"):
        code, out, _ = study.rbmed("list", kind, "--json")
        assert [row["name"] for row in json.loads(out)] == rb.names(kind)
    code, out, _ = study.rbmed("doctor", "--json")
    assert code == 0
    assert {row["what"] for row in json.loads(out)} >= {"torch", "torchattacks", "auto-LiRPA"}


def slow_down(study):
    """Let every answer take a while, so that a signal arrives in the middle."""
    model = study.folder / "study_model.py"
    head, answer = "    def forward(self, image):\n", "        return self.linear"
    slow = "        import time\n        time.sleep(0.01)\n"
    text = model.read_text()
    assert head + answer in text
    model.write_text(text.replace(head + answer, head + slow + answer))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_continues_to_the_same_records(study, end):
    slow_down(study)
    study.edit("seed = 3", "seed = 3\nbatch_size = 8")
    study.edit("{ cases = 16, queries = 20 }", "false")
    # A background job of a shell inherits SIGINT ignored; a person's terminal does not.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from robustbench_med.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "run", str(study.plan), "--out", "cut"]
    with (study.folder / "stderr").open("w") as told:
        process = subprocess.Popen(command, cwd=study.folder, stderr=told, stdout=told)
        cells = study.folder / "cut" / "records"
        deadline = time.monotonic() + 60
        while not list(cells.glob("*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(end)
        code = process.wait(30)
    stopped = len(list(cells.glob("*.parquet")))
    assert 0 < stopped < 5
    if end == signal.SIGINT:
        assert code == 5
        assert "the same command continues" in (study.folder / "stderr").read_text()
        state = json.loads((study.folder / "cut" / "manifest.json").read_text())["state"]
        assert state == "interrupted"
        code, _, err = study.rbmed("gate", study.folder / "cut", study.folder / "policy.toml")
        assert code == 5
        assert len(err.splitlines()) == 1
    study.rbmed("run", study.plan, "--out", study.folder / "cut", "--quiet")
    study.run()
    one = (study.folder / "cut" / "records.parquet").read_bytes()
    assert one == (study.folder / "run" / "records.parquet").read_bytes()


def test_progress_goes_to_stderr_with_rate_and_time_left(study):
    _, out, err = study.rbmed("run", study.plan, "--out", study.folder / "run")
    assert "answers" in err
    assert "/s" in err
    assert "left" in err
    assert "left" not in out


def test_training_then_running_the_same_file(study):
    study.edit('use = "study_model:load"', 'use = "lenet"\npreset = "small"\n'
               'weights = "weights/lenet.safetensors"')  # fmt: skip
    study.edit("[[metrics]]", "[train]\nepochs = 2\n\n[[metrics]]")
    study.edit('labels = {', 'size = [32, 32]\nsplits = { train = 0.5, test = 0.5 }\n'
               'split = "test"\nlabels = {')  # fmt: skip
    code, out, err = study.run()
    assert code == 2
    assert "rbmed train" in err
    code, out, _ = study.rbmed("check", study.plan)
    assert code == 0
    assert "first: rbmed train" in out
    code, out, _ = study.rbmed("train", study.plan, "--quiet")
    assert code == 0
    assert "trained:" in out
    card = json.loads((study.folder / "weights" / "lenet.json").read_text())
    assert card["task"]["classes"] == ["dark", "bright"]
    assert [row["epoch"] for row in card["curve"]] == [1, 2]
    code, out, _ = study.rbmed("train", study.plan, "--quiet")
    assert "trained before" in out
    code, _, err = study.run()
    assert (code, err) == (0, "")


def test_help_comes_in_under_a_second_without_torch():
    code = (
        "import sys; from robustbench_med import cli\n"
        "try: cli.main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0
    assert b"run folder" in done.stdout


def test_nothing_is_left_in_the_folder_but_whole_files(study):
    study.run()
    names = [name for _, _, found in os.walk(study.folder / "run") for name in found]
    assert not [name for name in names if "partial" in name or name.startswith(".")]
