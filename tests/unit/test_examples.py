"""The plans under examples: they can be read, fit one another, and move hearts as they say."""

import math
from pathlib import Path

import pytest
import torch

import robustbench_med as rb
from robustbench_med.cases import Batch
from robustbench_med.streams import CaseRng

EXAMPLES = Path(__file__).parents[2] / "examples"
PLANS = sorted(path for path in EXAMPLES.glob("*.toml") if ".policy" not in path.name)
IDS = tuple(f"c{index}" for index in range(60))


@pytest.fixture
def load(monkeypatch, tmp_path):
    monkeypatch.setenv("RBMED_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLES))  # the commands look beside the plan themselves
    return lambda name: rb.load_plan(EXAMPLES / f"{name}.toml")


@pytest.fixture
def moved(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from moved import Moved

    return Moved


def disc():
    """Copies of a disc of radius 5 around row 30.5, column 40.5 of 72 x 72 pixels, and labels."""
    rows, columns = torch.meshgrid(torch.arange(72.0), torch.arange(72.0), indexing="ij")
    labels = ((rows - 30.5) ** 2 + (columns - 40.5) ** 2 < 25).long()
    image = labels.float().expand(len(IDS), 1, -1, -1)
    return Batch(IDS, image, labels.expand(len(IDS), -1, -1))


def centroids(values):
    """Mean row and column of what is not zero, `(b, 2)`, from `(b, h, w)`."""
    places = [torch.arange(float(length)) for length in values.shape[1:]]
    shares = [values.sum(2), values.sum(1)]
    pairs = zip(shares, places, strict=True)
    return torch.stack([(share * at).sum(1) / share.sum(1) for share, at in pairs], 1)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_plan_can_be_read(path, load):
    assert load(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("network", "tested_on", "transfer"),
    [("cmr_simulated", "cmr", "cmr_transfer"), ("cmr_moved", "cmr", "cmr_moved_transfer"),
     ("cmr", "cmr_simulated", "cmr_reverse")],
)  # fmt: skip
def test_a_transfer_has_one_plans_network_and_another_ones_patients(
    network, tested_on, transfer, load
):
    assert load(transfer).model == load(network).model
    assert load(transfer).cohort == load(tested_on).cohort


def test_a_move_by_nothing_cuts_out_the_middle(moved):
    batch = disc()
    kept = moved(size=48, pixels=0, degrees=0)(None, batch, CaseRng(0, "move", IDS))
    torch.testing.assert_close(kept.image, batch.image[..., 12:60, 12:60], atol=1e-4, rtol=0)
    assert torch.equal(kept.target, batch.target[:, 12:60, 12:60])


def test_shifts_reach_the_limit_on_each_axis_and_labels_follow_the_image(moved):
    kept = moved(size=48, pixels=10, degrees=0)(None, disc(), CaseRng(0, "move", IDS))
    shift = centroids(kept.image[:, 0]) - torch.tensor([18.5, 28.5])
    assert 9 < shift.abs().amax() <= 10.01
    assert (shift.amin(0) < -8).all()
    assert (shift.amax(0) > 8).all()
    torch.testing.assert_close(
        centroids(kept.target.float()),
        centroids(kept.image[:, 0]),
        atol=0.51,
        rtol=0,  # nearest neighbour
    )


def test_turns_keep_size_and_distance_from_the_middle(moved):
    kept = moved(size=48, pixels=0, degrees=60)(None, disc(), CaseRng(0, "move", IDS))
    y, x = (centroids(kept.image[:, 0]) - 23.5).unbind(1)
    torch.testing.assert_close(torch.hypot(y, x), torch.full_like(x, 5 * 2**0.5), atol=0.1, rtol=0)
    turn = torch.rad2deg(torch.atan2(y, x)) - math.degrees(math.atan2(-5, 5))
    assert 55 < turn.abs().max() <= 60.5
    assert turn.min() < 0 < turn.max()
    torch.testing.assert_close(
        kept.image.sum((1, 2, 3)), disc().image.sum((1, 2, 3)), rtol=0.03, atol=0
    )
