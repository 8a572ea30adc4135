"""auto-LiRPA is imported once, quietly, and only in versions that were tried."""

import io
import logging
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from torch import nn

from robustbench_med.certify import shim
from robustbench_med.certify.lirpa import bound
from robustbench_med.errors import UnsupportedError


def test_importing_twice_gives_the_same_module_and_patches_it_once():
    first = shim.auto_lirpa()
    patched = first.BoundedModule._named_members
    assert shim.auto_lirpa() is first
    assert first.BoundedModule._named_members is patched


def test_an_unknown_version_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(shim, "version", lambda name: "0.5")
    with pytest.raises(UnsupportedError, match=r"0\.5 has not been tried, only 0\.3, 0\.7\.1"):
        shim.auto_lirpa()


def test_a_missing_package_is_answered_with_the_command_that_installs_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(shim, "version", missing)
    with pytest.raises(UnsupportedError, match=r"pip install --no-deps auto-LiRPA==0\.3"):
        shim.auto_lirpa()


def test_the_engine_is_loaded_when_first_asked_for_and_says_nothing():
    script = (
        "import logging, sys, torch\n"
        "from robustbench_med.certify import crown, lirpa\n"
        "assert 'auto_LiRPA' not in sys.modules\n"
        "network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(),\n"
        "    torch.nn.Flatten(), torch.nn.Linear(8, 2))\n"
        "low = torch.zeros(1, 1, 4, 4)\n"
        "lirpa.bound(network, low, low + 1)\n"
        "assert 'auto_LiRPA' in sys.modules and not logging.getLogger().handlers\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_root_logger_keeps_its_handlers():
    before = list(logging.getLogger().handlers)
    shim.auto_lirpa()
    assert logging.getLogger().handlers == before


class Halved(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, image):
        return self.linear(image.flatten(1)).chunk(2, 1)[1]


@pytest.mark.filterwarnings("ignore")
def test_an_export_to_onnx_by_anybody_changes_no_bound():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Halved().eval()
        image = torch.rand(1, 1, 2, 2)
    before = bound(network, image - 0.1, image + 0.1)
    torch.onnx.export(nn.Linear(2, 2).eval(), torch.zeros(1, 2), io.BytesIO(), dynamo=False)
    after = bound(network, image - 0.1, image + 0.1)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
