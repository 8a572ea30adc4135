"""Levels are found at which images lose what they shall, and the command tells so."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from robustbench_med.cases import Batch
from robustbench_med.cli import main
from robustbench_med.errors import InputError
from robustbench_med.levels import TARGETS, measure, visible
from robustbench_med.physics.fourier import fft2c, to_channels
from robustbench_med.shifts.blur import Blur
from robustbench_med.shifts.joint import joint
from robustbench_med.shifts.rician import Rician
from robustbench_med.shifts.severity import Levels, strength
from robustbench_med.streams import CaseRng


@pytest.fixture(scope="module")
def batches():
    drawn = torch.Generator().manual_seed(0)
    image = torch.rand(4, 1, 6, 6, generator=drawn).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return [Batch(("a", "b", "c", "d"), image, torch.zeros(4))]


@dataclass(frozen=True)
class Darker:
    """Mixes with black: at share 1 nothing is left; more is refused."""

    share: Levels = (0.1, 0.2, 0.3, 0.4, 0.5)
    most: float = 1.0

    def __call__(self, batch, severity, _rng):
        share = strength("darker", self.share, severity)
        if share > self.most:
            raise InputError(f"darker: {share}")
        return replace(batch, image=batch.image * (1 - share))


@pytest.mark.parametrize("shift", [Rician(), Blur(), Darker()])
def test_found_levels_lose_what_they_shall_by_another_library(shift, batches):
    found = measure(shift, batches)
    setting = next(iter(found.levels))
    levelled = replace(shift, **found.levels)
    (batch,) = batches
    for severity, target in enumerate(TARGETS, 1):
        rng = CaseRng(0, "levels", batch.case_ids)
        after = levelled(batch, float(severity), rng).image.numpy()
        before = batch.image.numpy()
        lost = [
            1 - structural_similarity(b[0], a[0], data_range=float(b.max()))
            for a, b in zip(after, before, strict=True)
        ]
        assert np.mean(lost) == pytest.approx(found.reached[severity - 1], abs=5e-3)
        assert np.mean(lost) == pytest.approx(target, abs=0.02), (setting, severity)
    assert list(found.levels[setting]) == sorted(found.levels[setting])


def test_what_cannot_be_strong_enough_ends_at_its_strongest(batches):
    found = measure(Darker(share=(0.02, 0.04, 0.06, 0.08, 0.1), most=0.15), batches)
    assert max(found.levels["share"]) <= 0.15
    assert found.reached[-1] < TARGETS[-1] / 2
    assert found.now[0] == 0


def test_a_shift_without_levels_is_refused_by_name(batches):
    with pytest.raises(InputError, match=r"levels: Searchable.* has no setting of five levels"):
        measure(joint(), batches)


def test_kspace_is_looked_at_as_an_image():
    image = torch.rand(2, 1, 16, 16)
    batch = Batch(
        ("a", "b"), to_channels(fft2c(image + 0j)), image, {"mask": torch.ones(2, 1, 16, 16)}
    )
    torch.testing.assert_close(visible(batch), image, atol=1e-5, rtol=0)


PLAN = """
name = "x"
[cohort]
use = "synthetic_cine"
patients = 1
slices = 1
size = 32
pixel_mm = 4.5
[model]
use = "unet"
preset = "small"
weights = "none.safetensors"
"""


def test_the_command_tells_losses_and_levels_and_what_could_not_be_measured(tmp_path, capsys):
    plan = tmp_path / "plan.toml"
    asked = '[[shift]]\nuse = "%s"\nseverities = [1]\n'
    plan.write_text(PLAN + asked % "blur" + asked % "kspace_noise")
    assert main(["levels", str(plan), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "blur: sigma = [" in shown
    assert "kspace_noise: not measured: kspace_noise: acts on k-space" in shown
    assert max(map(len, shown.splitlines())) <= 160
    sheet = tmp_path / "sheet.png"
    assert main(["levels", str(plan), "--quiet", "--json", "--sheet", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        assert picture.width == 728
    found = json.loads(capsys.readouterr().out)
    assert found["targets"] == list(TARGETS)
    assert found["shifts"]["blur"]["now"][0] == 0


def test_a_plan_without_shifts_has_nothing_to_measure(tmp_path, capsys):
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    assert main(["levels", str(plan)]) == 2
    assert "names no [[shift]]" in capsys.readouterr().err
