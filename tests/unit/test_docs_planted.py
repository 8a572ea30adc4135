"""The page of planted truths prints the stored figures, and says of them what they say."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "planted.json").read_text("utf-8"))
CLAIMED = runpy.run_path(str(ROOT / "benchmarks" / "planted.py"))["CLAIMS"]
CLAIMS = RESULTS["claims"]
PAGE = (ROOT / "docs" / "planted.md").read_text("utf-8")
TRAININGS = [
    pytest.param(claim, found, id=f"{key} {found['seed']}")
    for key, claim in CLAIMS.items()
    for found in claim["trainings"]
]
TWIN_OF = {
    "women_half": "women_few", "fat_shortcut_cut": "fat_shortcut", "fat_cut": "fat_shortcut",
    "fat_even": "fat_shortcut", "vendor_d_in": "vendor_d_out", "vendor_a_in": "vendor_a_out",
}  # fmt: skip


def digits(metric):
    """Decimals that are printed: two of a percentage, three of a share."""
    return 2 if metric == "mass_error" else 3


def limits(found, digits, name=""):
    """A value and its interval."""
    low, high = f"{name}_low".strip("_"), f"{name}_high".strip("_")
    shown = [f"{found[key]:z.{digits}f}" for key in (name or "value", low, high)]
    return "{} [{}, {}]".format(*shown)


def p_value(p):
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def row(claim, found):
    """Cells of a claim's row for one training."""
    places = digits(claim["metric"])
    return [
        f"`{claim['plan']}`", f"`{claim['metric']}`", claim["group"][1], str(found["seed"]),
        f"{found['patients']:.0f}, {found['rest_patients']:.0f}", limits(found, places),
        f"{found['rest_value']:.{places}f}", limits(found, places, "difference"),
        p_value(found["p_holm"]), f"{found['detectable']:.{places}f}",
        "worse" if found["said_worse"] else "not worse", found["worst"],
        "yes" if found["as_claimed"] else "**no**",
    ]  # fmt: skip


def rows(claims):
    """The table of the page, as cells: claims in their order, a row for each training."""
    ordered = [claims[claim.key] for claim in CLAIMED if claim.key in claims]
    return [row(claim, found) for claim in ordered for found in claim["trainings"]]


def whole(claims):
    """The table of everyone, as cells: what the plans of fat get right over all groups."""
    found = []
    for plan in ("fat_shortcut", "fat_shortcut_cut", "fat_cut", "fat_even"):
        sensitivity = claims[f"{plan} detection_DCM.sensitivity group 3"]["trainings"]
        specificity = claims[f"{plan} detection_DCM.specificity group 1"]["trainings"]
        for one, other in zip(sensitivity, specificity, strict=True):
            shown = [limits(each["all"], 3) for each in (one, other)]
            counts = [f"{each['all']['patients']:.0f}" for each in (one, other)]
            found.append([f"`{plan}`", str(one["seed"]), ", ".join(counts), *shown])
    return found


def printed(head):
    """Cells of the page's table whose head begins with `head`."""
    lines = iter(PAGE.splitlines())
    next(line for line in lines if line.startswith(head))
    next(lines)
    found = []
    while (line := next(lines, "")).startswith("|"):
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_every_claim_was_measured_with_three_trainings_or_more():
    assert list(CLAIMS) == [claim.key for claim in CLAIMED]
    for claim in CLAIMED:
        entry = CLAIMS[claim.key]
        assert (entry["plan"], entry["metric"], tuple(entry["group"]), entry["worse"]) == claim
        seeds = [found["seed"] for found in entry["trainings"]]
        assert {1, 2, 3} <= set(seeds)
        assert len(seeds) == len(set(seeds))


@pytest.mark.parametrize(("claim", "found"), TRAININGS)
def test_what_is_said_of_a_group_follows_from_its_figures(claim, found):
    apart = found["difference"]
    behind = apart > 0 if claim["metric"] == "mass_error" else apart < 0
    worse = behind and found["p_holm"] < 0.05
    assert found["said_worse"] is worse
    right = worse and found["worst"] == claim["group"][1] if claim["worse"] else not worse
    assert found["as_claimed"] is right


@pytest.mark.parametrize(("claim", "found"), TRAININGS)
def test_the_figures_of_a_row_fit_one_another(claim, found):
    apart, low, high = (found[f"difference{end}"] for end in ("", "_low", "_high"))
    assert apart == pytest.approx(found["value"] - found["rest_value"], abs=0.002)
    assert found["low"] <= found["value"] <= found["high"]
    assert low <= apart <= high
    assert found["p"] <= found["p_holm"] <= 1
    everyone = found["all"]
    assert found["patients"] + found["rest_patients"] == everyone["patients"]
    parts = found["patients"] * found["value"] + found["rest_patients"] * found["rest_value"]
    assert everyone["value"] == pytest.approx(parts / everyone["patients"], rel=0.001)
    if found["said_worse"]:
        assert low > 0 or high < 0


def test_the_page_prints_every_measured_figure():
    assert printed("| plan | figure |") == rows(CLAIMS)


def test_the_page_prints_what_the_networks_get_right_over_all_groups():
    assert printed("| plan | seed |") == whole(CLAIMS)


def test_the_page_counts_what_came_out_otherwise():
    count = len(rows(CLAIMS))
    wrong = sum(not found["as_claimed"] for c in CLAIMS.values() for found in c["trainings"])
    assert f"{count - wrong} of {count} rows came out as expected" in " ".join(PAGE.split())


def test_the_page_counts_the_twins_in_which_the_planted_gap_would_have_been_found():
    found = {
        (claim["plan"], claim["metric"], claim["group"][1], training["seed"]): training
        for claim in CLAIMS.values()
        for training in claim["trainings"]
    }
    twins = [key for key in found if key[0] in TWIN_OF]
    enough = 0
    for plan, *rest in twins:
        planted = found[TWIN_OF[plan], *rest]
        seen = abs(planted["difference"]) > found[plan, *rest]["detectable"]
        enough += planted["said_worse"] and seen  # a gap the other way is none that was planted
    assert f"In {enough} of {len(twins)} rows of twins" in " ".join(PAGE.split())
    others = [(key[0], key[-1]) for key in twins if found[key]["p_any"] < 0.05]
    told = re.findall(r"`(\w+)` seed (\d)", PAGE[PAGE.index("`p_any` is below 0.05 in") :])
    assert [(plan, int(seed)) for plan, seed in told] == others
