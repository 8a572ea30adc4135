"""Models that hide their gradients are flagged, honest ones are not; and the page says so."""

import json
import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
ZOO = runpy.run_path(str(ROOT / "benchmarks" / "masking_zoo.py"))
STORED = json.loads((ROOT / "benchmarks" / "results" / "masking_zoo.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "attack.md").read_text("utf-8")
SEED = 1
HONEST = ("naturally trained", "adversarially trained", "Lipschitz by construction", "linear")
HIDING = (
    "logits x 1e3", "logits x 1e5", "input rounded to 16 levels", "x + 0.003 sin(2000 x)",
    "x + 0.01 sin(500 x)", "detached", "detached, with an empty branch", "dropout left on",
    "rounded cosine transform", "rounded, then a median filter", "inner optimisation",
)  # fmt: skip


@pytest.fixture(scope="module")
def zoo():
    with torch.random.fork_rng():
        return {name: (net, surrogate) for name, _, net, surrogate in ZOO["zoo"](SEED)}


def examined(zoo, name):
    return ZOO["examined"](*zoo[name], ZOO["ATTACKS"]["pgd"], SEED)


def test_the_zoo_is_the_one_that_is_asked_for(zoo):
    assert set(zoo) == {*HONEST, *HIDING}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_is_not_flagged(zoo, name):
    found = examined(zoo, name)
    assert found.verdict == "valid", found.why
    assert found.n >= 48, "too few cases to flag anything"
    assert sum(check.says == "not asked" for check in found.checks) == 0


@pytest.mark.parametrize("name", HIDING)
def test_a_model_that_hides_its_gradients_is_flagged(zoo, name):
    found = examined(zoo, name)
    # A search inside a model need not hide anything: whether it does differs between trainings.
    flags = {"masked", "suspect"} if name == "inner optimisation" else {"masked"}
    assert found.verdict in flags, found.why
    assert found.n >= 48


def test_the_same_answers_are_hidden_not_changed(zoo):
    image, _ = ZOO["images"](200, 5)
    plain = zoo["naturally trained"][0](image).argmax(dim=1)
    for name in HIDING:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(5)
            answer = zoo[name][0](image).argmax(dim=1)
        least = 0.7 if "median" in name or "dropout" in name else 0.9
        assert (answer == plain).double().mean() >= least, name


def test_the_robust_model_of_the_zoo_is_robust_by_a_closed_form(zoo):
    """Its answers differ by at most the images' distance, as its layers have orthogonal rows."""
    network = zoo["Lipschitz by construction"][0]
    image, other = ZOO["images"](200, 6)[0], ZOO["images"](200, 7)[0]
    apart = (network(image) - network(other)).norm(dim=1)
    assert bool((apart <= 1.0001 * (image - other).flatten(1).norm(dim=1)).all())


@pytest.mark.parametrize("key", list(STORED["runs"]))
def test_no_stored_verdict_is_wrong(key):
    assert set(STORED["runs"][key]) == {*HONEST, *HIDING}
    wrong = {
        name: row["verdict"]
        for name, row in STORED["runs"][key].items()
        if (row["verdict"] == "valid") == row["hides"]
    }
    assert wrong == {}


def table_row(name):
    """A row of the page's table: shares of all trainings with pgd, verdicts with every attack."""
    runs = [rows[name] for key, rows in STORED["runs"].items() if key.startswith("pgd ")]
    every = [rows[name]["verdict"] for rows in STORED["runs"].values()]
    said = [verdict for verdict in ("valid", "suspect", "masked") if verdict in every]
    counts = ", ".join(f"{verdict} {every.count(verdict)} of {len(every)}" for verdict in said)
    speak = [
        check
        for check in runs[0]["checks"]
        if all(run["checks"][check]["says"] in ("suspect", "masked") for run in runs)
    ]
    withstood, at_most = (
        ", ".join(f"{run[figure]:.2f}" for run in runs) for figure in ("withstood", "at_most")
    )
    always = ", ".join(f"`{check}`" for check in speak) or "none"
    return f"| {name} | {withstood} | {at_most} | {counts} | {always} |"


@pytest.mark.parametrize("name", [*HONEST, *HIDING])
def test_the_page_prints_the_stored_figures(name):
    assert table_row(name) in PAGE
