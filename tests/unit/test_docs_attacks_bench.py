"""The page's tables against other tools print the stored figures, and claim what they show."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "attacks.py"))
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "attacks.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "attack.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## Against other tools") :].split("\n## ")[0]
ROWS = RESULTS["rows"]


def test_the_page_prints_every_row_that_was_measured():
    assert "\n".join(SCRIPT["table"](RESULTS)) in SECTION


def test_what_is_derived_follows_from_the_rows():
    derived = SCRIPT["summary"](ROWS)
    assert RESULTS["strongest"] == derived["strongest"]
    assert RESULTS["ratios"] == derived["ratios"]


@pytest.mark.parametrize("network", ["natural", "adversarial", "masked", "bai_fcn", "lenet"])
def test_every_network_has_rows_of_ours_and_of_a_peer(network):
    ran = [tool for tool, row in ROWS[network].items() if "held" in row]
    assert any(tool.startswith("ours") for tool in ran)
    assert any(tool.split()[0] in SCRIPT["PEERS"] for tool in ran)


@pytest.mark.parametrize("network", list(ROWS))
def test_no_row_holds_more_cases_than_were_right_without_an_attack(network):
    measured = RESULTS["networks"][network]
    for row in ROWS[network].values():
        if "held" in row:
            assert 0 <= row["held"] <= measured["right"] <= measured["cases"]
            assert row["seconds"]
            assert min(row["seconds"]) > 0
        else:
            assert row["left_out"]


@pytest.mark.parametrize("network", list(ROWS))
def test_ours_is_nowhere_more_than_one_case_weaker_than_the_strongest_peer(network):
    strongest = RESULTS["strongest"][network]
    assert strongest["ours"] <= strongest["peer_held"] + 1


def test_the_savings_of_autoattack_change_no_answer_on_the_natural_network():
    tools = ROWS["natural"]
    assert tools["ours autoattack"]["held"] == tools["ours plain"]["held"]
    assert RESULTS["ratios"]["natural"]["ours plain / ours autoattack"] >= 2


def test_no_tool_left_its_ball_as_the_page_says():
    beyond = [row["beyond"] for tools in ROWS.values() for row in tools.values() if "held" in row]
    assert max(beyond) <= 1.001


def test_pgd_costs_little_more_than_a_bare_loop_where_nothing_or_little_breaks():
    assert ROWS["masked"]["ours pgd 40"]["held"] == RESULTS["networks"]["masked"]["right"]
    for network in ("natural", "masked", "adversarial", "lenet"):
        assert RESULTS["ratios"][network]["ours pgd 40 / bare loop"] <= 1.05


def test_memory_does_not_grow_with_the_number_of_cases():
    added = RESULTS["added_mib"]
    assert added["3200"] <= added["100"] + 1
    assert f"adds {added['100']} MiB" in SECTION
    assert f"{added['3200']} MiB on 3200" in SECTION


def test_the_page_says_what_the_ratios_are():
    said = re.findall(r"`(\w+)`: (\d+\.\d\d) times a bare loop, (\d+\.\d) times", SECTION)
    assert said
    for network, loop, savings in said:
        ratios = RESULTS["ratios"][network]
        assert f"{ratios['ours pgd 40 / bare loop']:.2f}" == loop
        assert f"{ratios['ours plain / ours autoattack']:.1f}" == savings


def test_the_versions_are_on_the_page():
    for peer in SCRIPT["PEERS"]:
        assert RESULTS["machine"][peer] in SECTION
