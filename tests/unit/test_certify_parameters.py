"""What is certified of parameters is exact where that is known, holds, and can be checked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med.certify.cutting import Halving
from robustbench_med.certify.gamma_sets import gamma_boxes
from robustbench_med.certify.kspace_sets import line_errors, with_line_errors
from robustbench_med.certify.ladder import Effort, Rows, climb
from robustbench_med.certify.lowering import lowered
from robustbench_med.certify.parameter_radius import broken_on_rays, certified_radius
from robustbench_med.certify.parameters import certify_parameters
from robustbench_med.certify.physics_sets import smooth_fields, with_bias_field, with_window
from robustbench_med.certify.pose_sets import Pose, pose_boxes, posed
from robustbench_med.errors import InputError, IntegrityError
from robustbench_med.networks.fixed_cascade import FixedCascade
from robustbench_med.proofs.check import check
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.proof import InputSet

FIELDS = smooth_fields((8, 8), 1)
ROWS = Rows(np.array([[0, 1], [0, 2]]), np.array([[1.0, -1.0], [1.0, -1.0]]))


def image_and_classifier(seed, linear=False):
    """An image, and a network that gives it class 0 by some margin."""
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(64, 3)]
    if not linear:
        layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(),
                  nn.Linear(12, 3)]  # fmt: skip
    network = nn.Sequential(*layers).double()
    image = np.random.default_rng(seed).uniform(0.1, 0.9, size=(1, 8, 8))
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None])[0]
        layers[-1].bias += 0.1 * torch.tensor([1.0, 0, 0]) + logits.max() - logits
    return image, lowered(network, torch.from_numpy(image)[None]).network


def margins(network, points):
    outputs = values_of_cases(network, points)[-1].reshape(len(points), -1)
    return (outputs[:, ROWS.columns] * ROWS.values).sum(axis=2)


@pytest.mark.parametrize("seed", range(3))
def test_the_radius_of_a_linear_classifier_is_the_exact_one(seed):
    image, network = image_and_classifier(seed, linear=True)
    whole, widths = with_bias_field(network, image, FIELDS), np.array([1.0, 0.5])
    weight = margins(whole, np.eye(2)) - margins(whole, np.zeros((2, 2)))
    exact = (margins(whole, np.zeros((1, 2)))[0] / (np.abs(weight).T @ widths)).min()
    found = certified_radius(whole, widths, ROWS, most=4 * exact)
    assert 0.98 * exact <= found.certified <= exact
    assert exact * (1 - 1e-9) <= found.broken
    assert found.proof.boxes == 1
    check(whole, found.proof.proof)


@pytest.mark.parametrize("seed", range(3))
def test_no_sample_of_a_certified_box_fails_and_little_beyond_it_one_does(seed):
    image, network = image_and_classifier(seed)
    whole = with_bias_field(network, image, FIELDS, (0.0, 1.0))
    found = certified_radius(whole, np.ones(2), ROWS, most=3.0)
    inside = np.random.default_rng(seed).uniform(-1, 1, size=(20_000, 2)) * found.certified
    assert (margins(whole, inside) > 0).all()
    assert (check(whole, found.proof.proof) > 0).all()
    if found.certified < 2.9:
        beyond = np.random.default_rng(seed).uniform(-1, 1, size=(20_000, 2))
        assert (margins(whole, beyond * found.certified * 1.06) <= 0).any()
        assert found.certified < found.broken <= 1.06 * found.certified


def test_a_row_that_fails_comes_with_parameters_and_the_other_with_a_proof():
    image, network = image_and_classifier(1)
    whole = with_window(network, image)
    box = InputSet(np.array([-0.3, -0.2]), np.array([0.3, 0.2]))
    points = np.random.default_rng(0).uniform(box.low, box.high, size=(5000, 2))
    lowest = margins(whole, points).min(axis=0)
    hard = int(lowest.argmin())
    needed = float(lowest.mean())  # one row goes below, the other stays above
    assert lowest[hard] < needed < lowest[1 - hard]
    found = certify_parameters(whole, box, ROWS, needed=needed)
    assert found.status[hard] == "falsified"
    assert found.status[1 - hard] == "certified"
    theta = found.falsifiers[hard]
    assert ((theta >= box.low) & (theta <= box.high)).all()
    assert margins(whole, theta[None])[0, hard] < needed
    assert (check(whole, found.proof) > needed).all()
    assert not found.certified


def test_too_few_boxes_leave_a_row_undecided_and_without_proof():
    image, network = image_and_classifier(2)
    whole = with_bias_field(network, image, FIELDS, (0.0, 1.0))
    radius = certified_radius(whole, np.ones(2), ROWS, most=3.0).certified
    box = InputSet(np.full(2, -radius), np.full(2, radius))
    whole_box, halved = (
        certify_parameters(whole, box, ROWS, halving=Halving(budget)) for budget in (1, 1000)
    )
    assert halved.certified
    assert len(halved.proof.bases) > 1
    assert "undecided" in whole_box.status
    assert len(whole_box.proof.claims.limits) == whole_box.status.count("certified")
    check(whole, whole_box.proof)


def test_the_checker_refuses_a_proof_without_one_of_its_boxes_or_of_a_larger_set():
    image, network = image_and_classifier(2)
    whole = with_bias_field(network, image, FIELDS, (0.0, 1.0))
    proof = certified_radius(whole, np.ones(2), ROWS, most=3.0).proof.proof
    check(whole, proof)
    for dropped in range(len(proof.leaves)):
        leaves = tuple(leaf for at, leaf in enumerate(proof.leaves) if at != dropped)
        with pytest.raises(IntegrityError, match="cover"):
            check(whole, replace(proof, leaves=leaves))
    wider = replace(proof.inputs, high=proof.inputs.high * 3, low=proof.inputs.low * 3)
    with pytest.raises(IntegrityError, match="derived"):
        check(whole, replace(proof, inputs=wider))
    tighter = replace(proof.claims, limits=proof.claims.limits + 0.1)
    with pytest.raises(IntegrityError, match="derived"):
        check(whole, replace(proof, claims=tighter))


def test_a_reconstruction_is_bounded_under_errors_of_lines_as_near_as_is_asked():
    torch.manual_seed(1)
    mask = torch.zeros(6, 6)
    mask[[0, 2, 3]] = 1
    block = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    cascade = FixedCascade(nn.ModuleList([block]), mask, 0.9).double().eval()
    kspace = np.random.default_rng(0).normal(size=(2, 6, 6)) * mask.numpy()
    network = lowered(cascade, torch.from_numpy(kspace)[None]).network
    whole, box = with_line_errors(network, kspace, [2]), line_errors(1, 0.2, 10)
    rows = Rows(np.array([[7], [20], [50]]), np.ones((3, 1)))
    points = np.random.default_rng(1).uniform(box.low, box.high, size=(20_000, 2))
    least = (
        values_of_cases(whole, points)[-1].reshape(len(points), -1)[:, rows.columns[:, 0]].min(0)
    )
    for row, limit in enumerate(least):
        one = Rows(rows.columns[[row]], rows.values[[row]])
        found = certify_parameters(whole, box, one, needed=limit - 0.02)
        assert found.certified
        assert (check(whole, found.proof) > limit - 0.02).all()


@pytest.mark.parametrize("kind", ["gamma", "pose"])
def test_sub_intervals_have_a_proof_each_that_no_sample_breaks(kind):
    image, network = image_and_classifier(1)
    if kind == "gamma":
        boxes = gamma_boxes(image, 0.9, 1.1, 4)
        samples = np.stack([image**power for power in np.linspace(0.9, 1.1, 300)])
    else:
        boxes = pose_boxes(image, 1, 0, parts=(8, 1))
        samples = np.stack([posed(image, Pose(angle)) for angle in np.linspace(-1, 1, 300)])
    needed = float(margins(network, samples).min()) - 0.05
    climbed = [climb(network, box, ROWS, Effort("crown", needed=needed)) for box in boxes]
    for each in climbed:
        assert (each.limits > needed).all()
        assert (check(network, each.proof) > needed).all()
    lowest = np.min([each.limits for each in climbed], axis=0)
    assert (margins(network, samples).min(axis=0) >= lowest).all()


def test_a_wrong_answer_has_no_radius():
    image, network = image_and_classifier(0)
    wrong = Rows(ROWS.columns[:, ::-1].copy(), ROWS.values)
    found = certified_radius(with_bias_field(network, image, FIELDS), np.ones(2), wrong)
    assert (found.certified, found.broken, found.proof) == (0.0, 0.0, None)


def test_rays_meet_the_failure_of_a_row_that_falls_along_one():
    dense = Node("dense", (0,), (2,), {"weight": -np.eye(6)[:2], "bias": np.full(2, 0.5)})
    network = Network((Node("input", (), (6,)), dense))
    rows = Rows(np.array([[0]]), np.ones((1, 1)))
    assert 0.5 < broken_on_rays(network, np.ones(6), rows, 1.0) <= 0.53
    assert broken_on_rays(network, np.ones(6), rows, 0.4) == np.inf


@pytest.mark.parametrize("widths", [np.ones(3), np.zeros(2), np.array([1.0, -1.0])])
def test_widths_that_are_none_are_refused(widths):
    image, network = image_and_classifier(0)
    with pytest.raises(InputError, match="widths must be"):
        certified_radius(with_bias_field(network, image, FIELDS), widths, ROWS)
