"""Every attacked run says whether its attacks are to be believed, wherever it names them."""

import html
import json
import re

import pytest

from robustbench_med.engine.validity import panel

HIDDEN = """

class Rounded(Mean):
    '''Answers as its parent does, to a thousandth, and lets no gradient through.'''

    def forward(self, image):
        return super().forward((image * 1000).round() / 1000)


def rounded():
    return Rounded()
"""
RULE = """
[[rule]]
id = "an adversary"
probe = "worst[linf<=0.02]"
metric = "correct"
floor = 0.1
"""
TABLE = "validity = { cases = 16, queries = 20 }\n"
NAMES = ("pgd[linf<=0.02]", "pgd[linf<=0.05]", "worst[linf<=0.02]", "worst[linf<=0.05]")
WORDS = re.compile(r"(?:(?:pgd|worst)\[linf|worst case in linf)<=0\.0[25]\]?(?P<word> \(masked\))?")


@pytest.fixture
def masked(study):
    study.edit_model(HIDDEN)
    study.edit("study_model:load", "study_model:rounded")
    study.edit("[[certificate]]", "[[shift]]")
    study.edit(
        'use = "ibp"\nball = { norm = "linf", eps = 0.02 }', 'use = "blur"\nseverities = [1]'
    )
    policy = study.folder / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8") + RULE, encoding="utf-8")
    study.edit("seed = 3", 'seed = 3\npolicy = "policy.toml"')
    return study


def test_sound_attacks_are_called_valid_and_no_name_has_a_word(study):
    study.edit(TABLE, "")  # as a plan that says nothing of it
    assert study.run()[0] == 0
    said = study.opened().manifest["validity"]
    assert {name: entry["verdict"] for name, entry in said.items()} == dict.fromkeys(NAMES, "valid")
    assert all(entry["n"] == 32 for entry in said.values())
    checks = {check["name"]: check for check in said[NAMES[0]]["checks"]}
    assert {checks[name]["says"] for name in ("gradient", "black_box", "planted")} == {"ok"}
    table = study.opened().estimates
    assert set(table.loc[table["kind"].isin(["attack", "worst"]), "validity"]) == {"valid"}
    assert set(table.loc[~table["kind"].isin(["attack", "worst"]), "validity"]) == {""}
    assert "(masked)" not in study.report()
    assert "Verdict on each attack" in study.report()


def test_no_page_names_a_masked_attack_without_the_word(masked):
    code, out, _ = masked.run()
    assert code == 0
    said = masked.opened().manifest["validity"]
    assert {entry["verdict"] for entry in said.values()} == {"masked"}
    folder = masked.folder / "run"
    texts = {name: html.unescape((folder / name).read_text(encoding="utf-8"))
             for name in ("report.html", "summary.md")}  # fmt: skip
    texts["summary.md"] = texts["summary.md"].replace("\\", "")
    texts["terminal"] = out
    # The plan and the policy as they were written are printed as they were.
    texts["report.html"] = re.sub(r"<pre.*?</pre>", "", texts["report.html"], flags=re.DOTALL)
    for name, text in texts.items():
        named = list(WORDS.finditer(text))
        assert named, name
        bare = [text[max(0, m.start() - 60) : m.end() + 60] for m in named if not m["word"]]
        rules = [line for line in bare if "under worst" in line]
        assert bare == rules, name
    table = masked.opened().estimates
    assert set(table.loc[table["kind"].isin(["attack", "worst"]), "validity"]) == {"masked"}
    found = json.loads(masked.run("--json")[1])["estimates"]
    assert {row["validity"] for row in found if "linf" in row["probe"]} == {"masked"}


def test_what_a_masked_attack_leaves_standing_passes_no_rule(masked):
    masked.run()
    code, out, err = masked.rbmed("gate", masked.folder / "run", masked.folder / "policy.toml")
    assert code == 3, err
    flat = " ".join(out.split())
    assert "an adversary, all: whole interval" in flat
    assert "but the attack is masked" in flat
    assert "(masked)" in flat
    junit = (masked.folder / "run" / "junit.xml").read_text(encoding="utf-8")
    assert "but the attack is masked" in junit


def test_panels_are_kept_and_made_again_where_they_are_missing(study):
    study.run()
    stored = sorted((study.folder / "run" / "validity").glob("*.json"))
    before = study.opened().manifest["validity"]
    assert len(stored) == 2
    stamp = stored[1].stat().st_mtime_ns
    stored[0].unlink()
    assert study.run()[0] == 0
    assert stored[0].is_file()
    assert stored[1].stat().st_mtime_ns == stamp
    assert study.opened().manifest["validity"] == before


def test_a_run_interrupted_at_its_checks_goes_on_with_the_next(study, monkeypatch):
    asked = []

    def second_time_stop(*arguments, **settings):
        asked.append(arguments)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return panel(*arguments, **settings)

    monkeypatch.setattr("robustbench_med.panels.panel", second_time_stop)
    (line,) = study.refused_run(code=5)
    assert "the same command continues" in line
    assert study.opened().manifest["state"] == "interrupted"
    assert study.run()[0] == 0
    assert len(asked) == 3
    assert {e["verdict"] for e in study.opened().manifest["validity"].values()} == {"valid"}


def test_a_damaged_panel_is_told_with_what_to_do(study):
    study.run()
    stored = sorted((study.folder / "run" / "validity").glob("*.json"))
    stored[0].write_text("{", encoding="utf-8")
    study.edit("seed = 3", "seed = 3\nexplore = ['site']")  # so that there is something to do
    (line,) = study.refused_run(code=4)
    assert "a finished panel cannot be read; delete it and run again" in line


def test_a_plan_may_leave_the_checks_out_and_the_report_says_so(study):
    study.edit(TABLE, "validity = false\n")
    assert study.run()[0] == 0
    said = study.opened().manifest["validity"]
    assert {entry["verdict"] for entry in said.values()} == {"unchecked"}
    assert set(said) == set(NAMES)
    assert "worst[linf&lt;=0.02] (unchecked)" in study.report()
    assert "validity = false in the plan" in study.report()
    code, out, _ = study.rbmed("run", study.plan, "--out", study.folder / "run", "--quiet")
    assert code == 0
    assert "pgd[linf<=0.02] (unchecked)" in out
    assert "attacks that are unchecked: see 'Are the attacks to be believed'" in out
    assert not (study.folder / "run" / "validity").exists()


def test_images_that_were_given_are_unchecked_and_still_break_cases_for_the_worst(study):
    keep = 'use = "keep"\nfolder = "found"\ninner = { use = "pgd", steps = 20 }'
    study.edit('use = "pgd"\nsteps = 5\nstep_size = 0.5', keep)
    study.run()
    kept = study.opened().manifest["validity"]["keep[linf<=0.05]"]
    assert kept["verdict"] == "valid"
    weak = 'use = "random_search"\nqueries = 1\nball = { norm = "linf", eps = [0.02, 0.05] }\n\n'
    study.edit(keep, f'{weak}[[attack]]\nuse = "given"\nfolder = "found"')
    assert study.run()[0] == 0
    said = study.opened().manifest["validity"]
    assert said["given[linf<=0.05]"]["verdict"] == "unchecked"
    assert "nothing was searched" in said["given[linf<=0.05]"]["why"]
    assert said["random_search[linf<=0.05]"]["verdict"] == "masked"
    assert said["worst[linf<=0.05]"]["withstood"] == kept["withstood"]
    assert said["random_search[linf<=0.05]"]["withstood"] > kept["withstood"]


def test_nothing_is_checked_at_eps_0(study):
    study.edit("eps = [0.02, 0.05]", "eps = 0.0")
    study.edit('[[certificate]]\nuse = "ibp"\nball = { norm = "linf", eps = 0.02 }', "")
    assert study.run()[0] == 0
    said = study.opened().manifest["validity"]
    assert {name: entry["why"] for name, entry in said.items()} == dict.fromkeys(
        ("pgd[linf<=0]", "worst[linf<=0]"), "eps is 0: nothing can change"
    )


def test_a_surrogate_is_asked_too(study):
    table = '[validity]\ncases = 20\nqueries = 20\nsurrogate = { use = "study_model:load" }'
    study.edit(TABLE, "")
    study.edit("[[attack]]", f"{table}\n\n[[attack]]")
    assert study.run()[0] == 0
    said = study.opened().manifest["validity"][NAMES[0]]
    checks = {check["name"]: check["says"] for check in said["checks"]}
    assert checks["transfer"] == "ok"
    assert said["n"] == 20


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("validity = true", "validity: expected a table"),
        ("validity = { cases = 3 }", "cases: expected a whole number of at least 16, got 3"),
        ("validity = { case = 30 }", "unknown key 'case'; did you mean 'cases'?"),
        ("validity = { surrogate = { use = 'nowhere' } }", "nowhere"),
    ],
)
def test_what_is_wrong_with_the_table_is_told(study, given, expected):
    study.edit(TABLE, f"{given}\n")
    assert expected in " ".join(study.refused_run())
