"""The certifier of images refuses by a line what it cannot bound, and takes any plain network."""

import pytest
import torch
from torch import nn

from robustbench_med.cases import Batch, Task
from robustbench_med.certify.image_error import ImageError
from robustbench_med.errors import CaseError, InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.networks.deep_cascade import DeepCascade, Size
from robustbench_med.networks.zero_filled import zero_filled
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

BALL = Ball("linf", 0.01)
EVERYWHERE = (-9e9, 9e9)


def reconstructing(network):
    return TorchModel(network, Task("reconstruction"), EVERYWHERE)


def batch(shape=(1, 2, 4, 4), **context):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return Batch(("a",), image, image + 0.1, context)


def asked(model, cases, certifier=None, ball=BALL):
    return (certifier or ImageError())(model, cases, ball, CaseRng(0, "image", cases.case_ids))


def test_a_network_that_gives_the_image_itself_has_a_known_error():
    cases = batch()
    found = asked(reconstructing(nn.Identity()), cases)
    power = float(cases.target.square().sum())
    assert float(found["nmse_clean"]) == pytest.approx(32 * 0.01 / power, rel=1e-4)
    assert float(found["nmse_limit"]) == pytest.approx(32 * 0.11**2 / power, rel=1e-4)
    assert float(found["worst_pixel_limit"]) == pytest.approx(0.11 * 2**0.5, rel=1e-4)
    assert float(found["certified"]) == 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"limit": 0}, "limit must be finite and above 0"),
        ({"limit": float("nan")}, "limit must be"),
        ({"limit": "low"}, "limit must be"),
        ({"upto": "alpha_crown"}, "upto must be ibp, crown_ibp, crown"),
        ({"most_values": 0}, "most_values must be a whole number"),
        ({"most_values": 1.5}, "most_values must be a whole number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, line):
    with pytest.raises(InputError, match=line):
        ImageError(**settings)


def test_what_cannot_be_bounded_is_unsupported_by_name():
    cascade = reconstructing(DeepCascade(Size(1, 2, 2), None))
    mask = torch.ones(1, 1, 4, 4)
    with pytest.raises(UnsupportedError, match="ZeroFilled has not"):
        asked(reconstructing(zero_filled()), batch(mask=mask))
    with pytest.raises(UnsupportedError, match="one coil and one frame"):
        asked(cascade, batch((1, 4, 4, 4), mask=mask))
    with pytest.raises(UnsupportedError, match="more than most_values = 31"):
        asked(cascade, batch(mask=mask), ImageError(most_values=31))
    with pytest.raises(UnsupportedError, match="more than most_values = 33"):
        asked(reconstructing(nn.Conv2d(2, 8, 1)), batch(), ImageError(most_values=33))
    with pytest.raises(UnsupportedError, match="constant along each row"):
        asked(cascade, batch(mask=torch.eye(4)[None, None]))
    with pytest.raises(UnsupportedError, match="linf or l2"):
        asked(cascade, batch(mask=mask), ball=Ball("l1", 0.01))


def test_a_case_without_mask_or_truth_fails_alone():
    cascade = reconstructing(DeepCascade(Size(1, 2, 2), None))
    mask, good = torch.ones(1, 1, 4, 4), batch()
    with pytest.raises(CaseError, match="needs 'mask' in the case's context, which has nothing"):
        asked(cascade, good)
    with pytest.raises(CaseError, match="of 0 and 1"):
        asked(cascade, batch(mask=2 * mask))
    for target, line in (
        (torch.full_like(good.image, torch.nan), "target must be finite"),
        (good.image[:, :1], "target must be finite"),
        (torch.zeros_like(good.image), "target is 0 everywhere"),
    ):
        cases = Batch(("a",), good.image, target, {"mask": mask})
        with pytest.raises(CaseError, match=line):
            asked(cascade, cases)
    image = torch.full_like(good.image, torch.nan)
    with pytest.raises(CaseError, match="image is not finite"):
        asked(cascade, Batch(("a",), image, good.target, {"mask": mask}))
