"""APGD against torchattacks' on a small trained network: never more than one case weaker."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_med.attacks.apgd import Apgd
from robustbench_med.attacks.apgd_targeted import ApgdTargeted
from robustbench_med.cases import Batch, Task
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torchattacks = pytest.importorskip("torchattacks")

STEPS = 20
STARTS = 3  # one start leaves 26 cases, give or take one, to both: three make that steadier


@pytest.fixture(scope="module")
def trained():
    """A network that tells five blurred patterns apart, and 100 cases that it gets right."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        patterns = F.interpolate(torch.rand(5, 1, 3, 3), size=(8, 8), mode="bilinear")
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5),
        )  # fmt: skip
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)

        def draw(count):
            truth = torch.randint(5, (count,))
            return (patterns[truth] + 0.1 * torch.randn(count, 1, 8, 8)).clamp(0, 1), truth

        for _ in range(100):
            image, truth = draw(64)
            optimiser.zero_grad()
            F.cross_entropy(network(image), truth).backward()
            optimiser.step()
        image, truth = draw(300)
        network.eval()
        with torch.no_grad():
            right = (network(image).argmax(dim=1) == truth).nonzero().flatten()[:100]
    assert len(right) == 100
    batch = Batch(tuple(f"c{i}" for i in range(100)), image[right], truth[right])
    return TorchModel(network, Task("classification", tuple("abcde")), (0.0, 1.0)), batch


def robust(model, batch, image):
    with torch.no_grad():
        return (model(image).argmax(dim=1) == batch.target).sum().item()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.13), ("l2", 0.75)])
@pytest.mark.parametrize("kind", ["apgd", "apgd_targeted"])
def test_no_more_cases_are_left_than_by_torchattacks(kind, norm, eps, trained):
    model, batch = trained
    ours = {"apgd": Apgd(STEPS, STARTS), "apgd_targeted": ApgdTargeted(STEPS, 4, STARTS)}[kind]
    found = ours(model, batch, Ball(norm, eps, (0.0, 1.0)), CaseRng(0, "x", batch.case_ids))
    settings = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps}
    settings |= {"steps": STEPS, "n_restarts": STARTS}
    with torch.random.fork_rng():
        theirs = (
            torchattacks.APGD(model.network, loss="ce", **settings)
            if kind == "apgd"
            else torchattacks.APGDT(model.network, n_classes=5, **settings)
        )(batch.image, batch.target)
    left, left_by_theirs = robust(model, batch, found), robust(model, batch, theirs)
    assert 10 < left_by_theirs < 90, "a ball that tells nothing"
    assert left <= left_by_theirs + 1
