"""The ladder: every rung holds, none is looser, crops change nothing, and the checker agrees."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med import bound
from robustbench_med.cases import Batch, Task
from robustbench_med.certify.branching import Search
from robustbench_med.certify.crown import Crown
from robustbench_med.certify.ladder import RUNGS, Effort, Rows, climb
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.written import class_sets
from robustbench_med.clinical import volume_limits
from robustbench_med.model import TorchModel
from robustbench_med.networks.plain_fcn import plain_fcn
from robustbench_med.proofs import patches
from robustbench_med.proofs.certificate import proved_share
from robustbench_med.proofs.check import check
from robustbench_med.proofs.derive import derive
from robustbench_med.proofs.proof import InputSet
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


def built(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


@pytest.fixture(scope="module")
def classifier():
    network = built(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4),
        )
    )  # fmt: skip
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return network, image, lowered(network, image).network


def rows_of(network, image):
    with torch.no_grad():
        best = int(network(image).argmax())
    columns = np.array([[best, other] for other in range(4) if other != best])
    return Rows(columns, np.tile([1.0, -1.0], (3, 1)))


def box(image, eps):
    centre = image[0].double().numpy()
    return InputSet(centre - eps, centre + eps)


def lowest_met(network, image, eps, rows):
    """Smallest margins of signed gradient steps and random corners, in float64."""
    network, image = copy.deepcopy(network).double(), image.double()
    stream = torch.Generator().manual_seed(2)
    worst = np.full(len(rows), np.inf)
    for row in range(len(rows)):
        point = image.clone()
        for _ in range(20):
            point.requires_grad_()
            value = network(point)[0, rows.columns[row]] @ torch.tensor(rows.values[row])
            worst[row] = min(worst[row], float(value.detach()))
            (slope,) = torch.autograd.grad(value, point)
            moved = point.detach() - eps / 3 * slope.sign()
            point = torch.minimum(torch.maximum(moved, image - eps), image + eps)
    signs = torch.randint(0, 2, (200, *image.shape[1:]), generator=stream) * 2.0 - 1
    with torch.no_grad():
        outputs = network(image + eps * signs).numpy()
    margins = (outputs[:, rows.columns] * rows.values).sum(axis=2)
    return np.minimum(worst, margins.min(axis=0))


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.2])
def test_no_rung_is_looser_than_the_one_before_and_nothing_breaks_a_limit(classifier, eps):
    network, image, written = classifier
    rows, inputs = rows_of(network, image), box(image, eps)
    found = {
        rung: climb(written, inputs, rows, Effort(rung, close=True, search=Search(budget=60)))
        for rung in RUNGS
    }
    met = lowest_met(network, image, eps, rows)
    for before, after in itertools.pairwise(RUNGS):
        assert (found[after].limits >= found[before].limits - 1e-9).all()
    for climbed in found.values():
        assert (climbed.limits <= met).all()
        derived = check(written, climbed.proof)
        assert (derived >= climbed.proof.claims.limits).all()
        assert len(derived) == (climbed.limits > 0).sum()


def test_slopes_and_splits_decide_what_lines_leave_open(classifier):
    network, image, written = classifier
    rows = rows_of(network, image)
    decided = {}
    for rung in RUNGS[2:]:
        total = 0
        for eps in np.linspace(0.05, 0.6, 12):
            found = climb(written, box(image, eps), rows, Effort(rung, search=Search(budget=200)))
            check(written, found.proof)
            total += int((found.limits > 0).sum()) + len(found.falsifiers)
            for row, point in found.falsifiers.items():
                value = network(torch.tensor(point[None]).float())[0, rows.columns[row]]
                assert float(value.detach() @ torch.tensor(rows.values[row]).float()) <= 1e-6
        decided[rung] = total
    assert decided["crown"] <= decided["alpha_crown"] < decided["branch_and_bound"]


def test_linear_limits_are_no_looser_than_those_of_auto_lirpa(classifier):
    network, image, written = classifier
    rows = rows_of(network, image)
    dense = torch.zeros(3, 4).scatter_(
        1, torch.tensor(rows.columns), torch.tensor(rows.values).float()
    )
    for method in ("ibp", "crown_ibp", "crown"):
        lower, _ = bound(network, image - 0.05, image + 0.05, dense, method=method)
        ours = climb(written, box(image, 0.05), rows, Effort(method, close=True)).limits
        assert (ours >= lower[0].numpy() - 1e-5).all()


@pytest.fixture(scope="module")
def segmenter():
    network = built(lambda: plain_fcn(preset="small", classes=3), 3)
    image = torch.rand(1, 1, 24, 20, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():  # so that no class wins everywhere
        network.layers[-1].bias -= network(image).mean((0, 2, 3))
    return network, image, lowered(network, image).network


def test_tiles_give_the_limits_of_the_whole_image_borders_included(segmenter, monkeypatch):
    _, image, written = segmenter
    found = {}
    for tile in (1000, 8, 4, 3):
        monkeypatch.setattr(patches, "TILE", tile)
        found[tile] = derive(written, box(image, 0.002))
    whole = found.pop(1000)
    for tiled in found.values():
        for node in whole.lower:
            np.testing.assert_allclose(tiled.lower[node], whole.lower[node], atol=1e-9)
            np.testing.assert_allclose(tiled.upper[node], whole.upper[node], atol=1e-9)
            opened = (whole.lower[node] < 0) & (whole.upper[node] > 0)
            np.testing.assert_array_equal(tiled.slopes[node][opened], whole.slopes[node][opened])


def test_a_certified_segmentation_counts_what_each_class_can_have(segmenter):
    network, image, _ = segmenter
    model = TorchModel(network, Task("segmentation", ("a", "b", "c")), (0.0, 1.0))
    with torch.no_grad():
        answer = model(image).argmax(dim=1)
    batch, ball = Batch(("one",), image, answer), Ball("linf", 0.002, (0.0, 1.0))
    values = Crown()(model, batch, ball, CaseRng(0, "test", batch.case_ids))
    assert 0.3 < float(values["certified"]) < 1
    assert values["checked"] == values["certified"]
    least = [int(values[f"least.{k}"]) for k in range(3)]
    most = [int(values[f"most.{k}"]) for k in range(3)]
    assert sum(least) == round(float(values["certified"]) * answer.numel())
    stream = torch.Generator().manual_seed(5)
    for _ in range(50):
        noise = torch.randint(0, 2, image.shape, generator=stream) * 2.0 - 1
        with torch.no_grad():
            label = model((image + 0.002 * noise).clamp(0, 1)).argmax(dim=1)
        counts = label.flatten().bincount(minlength=3).tolist()
        assert all(low <= n <= high for low, n, high in zip(least, counts, most, strict=True))
    ((name, certificate),) = values.certificates
    assert name == "one"
    assert proved_share(certificate) == pytest.approx(float(values["certified"]))


def test_class_sets_are_those_that_the_proved_margins_leave():
    answer = np.array([[0, 2], [1, 1]])
    # Rows of a pixel are its margins over the other classes, in order.
    proved = np.array([[True, False], [True, True], [False, False], [False, True]]).ravel()
    sets = class_sets(proved, answer, 3)
    assert sets[:, 0, 0].tolist() == [True, False, True]
    assert sets[:, 0, 1].tolist() == [False, False, True]
    assert sets[:, 1, 0].tolist() == [True, True, True]
    assert sets[:, 1, 1].tolist() == [True, True, False]
    assert volume_limits(sets).tolist() == [[0, 3], [0, 2], [1, 3]]
