"""A certificate's set has to hold the whole ball that it names: centre, radius and support."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med.cases import Batch, Task
from robustbench_med.certify.crown import Crown
from robustbench_med.errors import IntegrityError
from robustbench_med.model import TorchModel
from robustbench_med.proofs.certificate import proved_share
from robustbench_med.proofs.certificate_files import load_certificate, save_certificate
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball


def certificate(ball):
    """Of a linear classifier that is sure of its answer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    model = TorchModel(network, Task("classification", ("a", "b", "c")), (-9e9, 9e9))
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    roi = torch.zeros(1, 1, 4, 4)
    roi[..., :2] = 1
    with torch.no_grad():
        batch = Batch(("a",), image, model(image).argmax(1), {"roi": roi})
    found = Crown()(model, batch, ball, CaseRng(0, "test", batch.case_ids))
    assert float(found["checked"]) == 1
    return found.certificates[0][1]


BALLS = [
    Ball(norm, eps, support=support)
    for norm, eps in (("linf", 1e-3), ("l2", 4e-3))
    for support in (None, "roi")
]


def with_set(made, **parts):
    return replace(made, proof=replace(made.proof, inputs=replace(made.proof.inputs, **parts)))


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_a_set_that_leaves_out_a_part_of_the_ball_is_refused(ball, tmp_path):
    made = certificate(ball)
    inputs, radius = made.proof.inputs, made.about["ball"]["radius"]
    assert np.array_equal(made.free > 0, inputs.high > inputs.low)
    assert proved_share(load_certificate(save_certificate(tmp_path, "g", made))) == 1
    with pytest.raises(IntegrityError, match="smaller than the ball"):
        proved_share(with_set(made, low=made.image, high=made.image))
    moved = made.image + 0.5 * radius * made.free
    for centre, length in ((made.image, 0.9 * radius), (moved, radius), (moved, np.nan)):
        with pytest.raises(IntegrityError, match=r"less than the ball's|must be at least 0"):
            proved_share(with_set(made, centre=centre, radius=length))
    with pytest.raises(IntegrityError, match="smaller than the ball"):
        proved_share(replace(made, image=moved))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"free": np.zeros((1, 4, 4))}, "by 1 and, with a support, 0"),
        ({"free": np.ones(3)}, "flags .* of what may change"),
        ({"image": np.full((1, 4, 4), np.nan)}, "its image is not finite"),
        ({"about": {"kind": "classification"}}, "names no ball"),
        (
            {"about": {"ball": {"norm": "linf", "radius": -1, "bounds": ["-inf", "inf"]}}},
            "a ball of radius -1",
        ),
    ],
)
def test_what_names_no_ball_is_refused(change, line):
    with pytest.raises(IntegrityError, match=line):
        proved_share(replace(certificate(BALLS[0]), **change))
