"""Augmentation by shifts."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robustbench_med.cases import Batch
from robustbench_med.errors import InputError, UnknownNameError
from robustbench_med.model import TorchModel
from robustbench_med.networks.unet import unet
from robustbench_med.shifts.gamma import Gamma
from robustbench_med.shifts.placement import Placement
from robustbench_med.streams import CaseRng
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.shifted import Shifted

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))
CASES = 400


def model_and_batch(cases=CASES):
    cohort = MADE.classes_cohort()
    model = TorchModel(MADE.small_lenet(), cohort.task, cohort.bounds)
    few = next(cohort.batches(8))
    every = [i % 8 for i in range(cases)]
    ids = tuple(f"case-{i}" for i in range(cases))
    return model, Batch(ids, few.image[every], few.target[every], {})


def exponents(shifted, clean):
    """Of gamma, case by case: the slope of log intensities over their maximum."""
    top = clean.amax(dim=(1, 2, 3), keepdim=True)
    x, y = (clean / top).log(), (shifted / top).log()
    fits = x.isfinite() & y.isfinite() & (x < -0.1)
    return torch.stack([(y[i][fits[i]] / x[i][fits[i]]).median() for i in range(len(clean))])


def test_severities_are_uniform_up_to_the_strongest_and_a_share_is_shifted():
    model, batch = model_and_batch()
    gamma = Gamma(log_gamma=(0.1, 0.2, 0.3, 0.4, 0.5), direction="darker")
    rng = CaseRng(0, "epoch-1", batch.case_ids)
    moved = Shifted(gamma, severity=4, share=0.7)(model, batch, rng)
    size = exponents(moved.image.double(), batch.image.double()).log().abs()
    still = torch.tensor([torch.equal(a, b) for a, b in zip(moved.image, batch.image, strict=True)])
    assert 0.23 < still.double().mean() < 0.37  # 0.3, three standard errors of 0.023
    strength = size[~still]
    assert strength.max() <= 0.4 + 1e-3  # its severity 4
    # A uniform variable: quartiles at 0.1, 0.2 and 0.3.
    quartiles = torch.quantile(strength, torch.tensor([0.25, 0.5, 0.75]).double())
    torch.testing.assert_close(
        quartiles, torch.tensor([0.1, 0.2, 0.3]).double(), atol=0.035, rtol=0
    )


def test_a_case_is_shifted_the_same_whatever_the_batch_and_anew_in_another_epoch():
    model, batch = model_and_batch(8)
    defence = Shifted({"use": "bias_field"}, share=1)
    together = defence(model, batch, CaseRng(0, "epoch-1", batch.case_ids))
    alone = defence(model, batch[3], CaseRng(0, "epoch-1", batch.case_ids[3:4]))
    assert torch.equal(alone.image[0], together.image[3])
    later = defence(model, batch, CaseRng(0, "epoch-2", batch.case_ids))
    assert not any(torch.equal(a, b) for a, b in zip(later.image, together.image, strict=True))


def test_labels_move_and_images_stay_in_the_bounds():
    cohort = MADE.masks_cohort()
    model = TorchModel(MADE.built(unet, preset="small"), cohort.task, cohort.bounds)
    batch = next(cohort.batches(4))
    place = Placement(unit="pixels", degrees=(0,) * 5, log_scale=(0,) * 5)
    moved = Shifted(place, severity=5, share=1)(model, batch, CaseRng(1, "e", batch.case_ids))
    assert not torch.equal(moved.target, batch.target)
    assert moved.target.dtype == batch.target.dtype
    loud = Shifted({"use": "rician", "sigma": [0.5] * 5}, severity=5, share=1)
    noisy = loud(model, batch, CaseRng(1, "e", batch.case_ids)).image
    low, high = cohort.bounds
    assert (noisy.min() >= low, noisy.max() <= high) == (True, True)
    assert (noisy == high).any()


def test_a_plan_names_the_shift_and_the_card_tells_it():
    settings = TrainSettings(defence={"use": "shifted", "shift": {"use": "blur"}, "severity": 2})
    assert settings.described()["defence"]["shift"] == {"use": "blur"}


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"shift": "blurr"}, UnknownNameError, "did you mean 'blur'"),
        ({"shift": 3}, InputError, "shifted: shift: expected a name"),
        (
            {"shift": "blur", "severity": 6},
            InputError,
            "severity must be above 0, at most 5, got 6",
        ),
        ({"shift": "blur", "severity": 0}, InputError, "severity must be above 0"),
        ({"shift": "blur", "share": 0}, InputError, "share must be above 0, at most 1, got 0"),
        ({"shift": "blur", "share": 1.5}, InputError, "share must be above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, error, said):
    with pytest.raises(error, match=said):
        Shifted(**settings)
