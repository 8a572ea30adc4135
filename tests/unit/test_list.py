"""What `rbmed list networks` says of every network is true of it."""

import json

from robustbench_med.cli import main
from robustbench_med.components import find, names

COUNTS = {
    "unet": "481,762 parameters small; 31,030,658 parameters full",
    "deep_cascade": "33,918 parameters small; 565,770 parameters full",
    "bai_fcn": "79,084 parameters small; 1,985,556 parameters full",
}


def listed(capsys, *more):
    assert main(["list", "networks", *more]) == 0
    return capsys.readouterr().out


def test_task_parameters_and_bounds_are_told_of_every_network(capsys):
    rows = {row["name"]: row for row in json.loads(listed(capsys, "--json"))}
    assert sorted(rows) == sorted(names("networks"))
    for name, row in rows.items():
        assert "bounded" in row["about"], name
        home = __import__(find("networks", name).__module__, fromlist=["TASK"])
        assert row["about"].startswith(home.TASK)
    for name, counts in COUNTS.items():
        assert counts in rows[name]["about"]


def test_lines_fit_a_terminal(capsys):
    assert max(map(len, listed(capsys).splitlines())) <= 80
