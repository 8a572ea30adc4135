"""The forest's tensors answer as scikit-learn's trees do; its features equal a literal loop."""

import functools
import itertools
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier

import robustbench_med as rb
from robustbench_med.attacks.gradient import loss_gradient
from robustbench_med.cases import Batch, Cohort, Task
from robustbench_med.components import build
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.models import load_model, save_model
from robustbench_med.networks.forest import SIZES, Forest, Size, features, forest
from robustbench_med.networks.forest_fit import fit_forest, take_trees
from robustbench_med.questions import build_cohort
from robustbench_med.training.card import read_card
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

SYSTEMS = Path(__file__).parents[2] / "examples" / "systems"
TINY = Size(trees=3, leaves=20, boxes=(1, 2))


@functools.cache
def torsos():
    return rb.build("cohorts", "synthetic_cine", task="torso", patients=3, size=32, pixel_mm=14,
                    slices=2)  # fmt: skip


@functools.cache
def fitted():
    network = Forest(TINY, 1, 9)
    fit_forest(network, torsos(), pixels=300, seed=4)
    return network.eval()


def grown(values, labels, size, seed=0):
    """A forest of scikit-learn, and the same as tensors."""
    learner = ExtraTreesClassifier(
        n_estimators=size.trees, max_leaf_nodes=size.leaves, random_state=seed
    ).fit(values, labels)
    network = Forest(size, 1, 5)
    take_trees(network, learner)
    return learner, network


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), leaves=st.integers(2, 40), trees=st.integers(1, 5))
def test_the_tensors_answer_as_the_trees_that_they_were_made_of(seed, leaves, trees):
    rng = np.random.default_rng(seed)
    # Few decimals: values that equal a threshold to the last bit are asked about too.
    values = rng.normal(size=(200, 6)).round(rng.integers(1, 8)).astype(np.float32)
    labels = rng.choice([0, 1, 3], size=200)  # class 2 and 4 are not among them
    learner, network = grown(values, labels, Size(trees, leaves, ()), seed % 1000)
    asked = np.concatenate([values, rng.normal(size=(300, 6)).astype(np.float32)])
    at_thresholds = np.tile(learner.estimators_[0].tree_.threshold[:, None], (1, 6))
    asked = np.concatenate([asked, at_thresholds.astype(np.float32)])
    answered = network.shares(torch.from_numpy(asked)).numpy()
    np.testing.assert_allclose(answered[:, [0, 1, 3]], learner.predict_proba(asked), atol=1e-6)
    assert (answered[:, [2, 4]] == 0).all()


def test_a_tree_of_one_leaf_answers_with_it():
    values = np.zeros((10, 2), dtype=np.float32)
    learner, network = grown(values, np.array([1] * 7 + [2] * 3), Size(2, 4, ()))
    assert learner.estimators_[0].get_n_leaves() == 1
    expected = torch.tensor([0, 0.7, 0.3, 0, 0]).expand(5, -1)
    torch.testing.assert_close(network.shares(torch.randn(5, 2)), expected)


@pytest.mark.parametrize("shape", [(2, 1, 7, 9), (1, 2, 5, 4)])
def test_features_equal_a_loop_over_pixels_and_boxes(shape):
    image, boxes = torch.rand(shape), (1, 3)
    found = features(image, boxes)
    count, channels, height, width = shape
    assert found.shape == (count, 2 + channels + 9 * channels * len(boxes), height, width)
    for y in range(height):
        assert found[:, 0, y].unique().item() == pytest.approx((2 * y + 1) / height - 1)
    for x in range(width):
        assert found[:, 1, :, x].unique().item() == pytest.approx((2 * x + 1) / width - 1)
    assert torch.equal(found[:, 2 : 2 + channels], image)
    number = 2 + channels
    for half, down, across in itertools.product(boxes, (-1, 0, 1), (-1, 0, 1)):
        middle = ((2 * half + 1) * down, (2 * half + 1) * across)
        expected = box_mean(image, half, middle)
        torch.testing.assert_close(found[:, number : number + channels], expected)
        number += channels


def box_mean(image, half, middle):
    """Mean of each pixel's box, pixel by pixel; what lies beyond the image counts as 0."""
    means, (height, width) = torch.zeros_like(image), image.shape[2:]
    around = range(-half, half + 1)
    for y, x, dy, dx in itertools.product(range(height), range(width), around, around):
        row, column = y + middle[0] + dy, x + middle[1] + dx
        if 0 <= row < height and 0 <= column < width:
            means[..., y, x] += image[..., row, column] / (2 * half + 1) ** 2
    return means


def test_it_learns_the_torso_and_answers_with_probabilities():
    cases = list(torsos().cases)
    image, target = (torch.stack([getattr(c, n) for c in cases]) for n in ("image", "target"))
    log = fitted()(image)
    assert (log.shape, log.dtype) == ((6, 9, 32, 32), torch.float32)
    torch.testing.assert_close(log.exp().sum(dim=1), torch.ones(6, 32, 32))
    often = target.flatten().bincount().max() / target.numel()
    assert (log.argmax(dim=1) == target).float().mean() > often + 0.1
    torch.testing.assert_close(torch.cat([fitted()(one[None]) for one in image]), log)


def test_equal_seeds_give_equal_trees_and_others_do_not():
    again, other = Forest(TINY, 1, 9), Forest(TINY, 1, 9)
    fit_forest(again, torsos(), pixels=300, seed=4)
    fit_forest(other, torsos(), pixels=300, seed=5)
    weights = fitted().state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())
    assert not torch.equal(other.threshold, weights["threshold"])


def test_fitting_again_forgets_the_trees_before():
    network = Forest(TINY, 1, 9)
    fit_forest(network, torsos(), pixels=500, seed=1)
    fit_forest(network, torsos(), pixels=300, seed=4)
    weights = fitted().state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_saved_trees_answer_the_same_without_scikit_learn(tmp_path, monkeypatch):
    network = forest(preset="small", classes=9)
    fit_forest(network, torsos(), pixels=100)
    entry = {"use": "forest", "preset": "small", "weights": "forest.safetensors"}
    path = tmp_path / "forest.safetensors"
    card = save_model(path, entry, network, torsos(), TrainSettings(), [])
    assert card.parameters == sum(p.numel() for p in network.parameters()) > 0
    assert path.stat().st_size < 2 * 2**20
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    model = load_model(entry, cohort=torsos(), folder=tmp_path)
    image = torsos().cases[0].image[None]
    assert torch.equal(model(image), network.eval()(image))
    with pytest.raises(InputError, match=r"pip install 'robustbench-med\[forest\]'"):
        fit_forest(network, torsos())


def test_the_script_fits_the_forest_of_a_plan(tmp_path, monkeypatch, capsys):
    main = runpy.run_path(str(SYSTEMS / "fit_forest.py"))["main"]
    text = (SYSTEMS / "forest.toml").read_text("utf-8")
    text = text.replace("train = 40, test = 20", "train = 2, test = 2")
    text = text.replace("../weights/system_forest", "kept")
    plan = tmp_path / "forest.toml"
    plan.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["fit_forest", str(plan), "--pixels", "50"])
    assert main() == 0
    assert "kept.safetensors" in capsys.readouterr().out
    card = read_card(tmp_path / "kept.safetensors")
    assert card.training == {"pixels": 50, "seed": 7}
    loaded = rb.load_plan(plan)
    cohort = build_cohort(loaded)
    model = load_model(loaded.model, cohort=cohort, folder=tmp_path)
    assert model(cohort.cases[0].image[None]).shape == (1, 9, 64, 64)
    plan.write_text(text.replace('use = "forest"', 'use = "unet"'), encoding="utf-8")
    assert main() > 0
    assert "expected model = { use = 'forest'" in capsys.readouterr().err


def test_presets_differ_in_sizes_only():
    with torch.device("meta"):
        full = build("networks", "forest")
    assert sum(p.numel() for p in full.parameters()) == 2_457_500
    for preset, size in SIZES.items():
        with torch.device("meta"):
            network = build("networks", "forest", preset=preset, classes=9)
        inner = size.trees * (size.leaves - 1)
        assert sum(p.numel() for p in network.parameters()) == inner + 9 * size.trees * size.leaves
        assert network.child.shape == (size.trees, size.leaves - 1, 2)
        assert not any(p.requires_grad for p in network.parameters())


def test_attacks_along_a_gradient_refuse_it():
    model = TorchModel(fitted(), torsos().task, (0.0, 1.0))
    case = torsos().cases[0]
    batch = Batch((case.case_id,), case.image[None], case.target[None])
    with pytest.raises(UnsupportedError, match=r"no gradients .* use a black-box attack \(square"):
        loss_gradient(model, batch, batch.image)


def test_steps_of_a_training_refuse_it(tmp_path):
    with pytest.raises(InputError, match="not by steps; fit it with: python examples/systems"):
        train(forest(preset="small", classes=9), torsos(), TrainSettings(epochs=1), folder=tmp_path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(1, 2, 32, 32), r"expected images \(b, 1, h, w\), got \(1, 2, 32, 32\)"),
        (torch.rand(1, 32, 32), r"expected images \(b, 1, h, w\), got \(1, 32, 32\)"),
    ],
)
def test_images_of_other_channels_are_refused(image, message):
    with pytest.raises(InputError, match=message) as refused:
        fitted()(image)
    assert len(str(refused.value).splitlines()) == 1


def test_a_forest_without_trees_refuses_to_answer():
    with pytest.raises(InputError, match="has no trees yet; fit it with"):
        forest(preset="small").eval()(torch.rand(1, 1, 8, 8))
    with pytest.raises(InputError, match="expected weights = FILE"):
        load_model({"use": "forest"}, cohort=torsos())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "tiny"}, "full, small, got 'tiny'"),
        ({"in_channels": 0}, "at least 1, got 0 and 2"),
        ({"classes": 0}, "at least 1, got 1 and 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        forest(**wrong)


def test_cohorts_that_do_not_fit_are_refused():
    network, case = Forest(TINY, 1, 9), torsos().cases[0]

    def of(kind="segmentation", cases=(case,)):
        return Cohort("some", Task(kind, tuple("abcdefghi")), (0.0, 1.0), cases)

    with pytest.raises(InputError, match=r"at least 1 pixel of each case.*got 0"):
        fit_forest(network, of(), pixels=0)
    with pytest.raises(InputError, match="of classification"):
        fit_forest(network, of("classification"))
    with pytest.raises(InputError, match="got 1024 and 0 of"):
        fit_forest(network, of(cases=()))
    with pytest.raises(InputError, match=r"labels 0 to 8 .* up to 9"):
        fit_forest(network, of(cases=[replace(case, target=case.target + 1)]))
    with pytest.raises(InputError, match=r"on the image's grid \(32, 32\), got \(31, 32\)"):
        fit_forest(network, of(cases=[replace(case, target=case.target[1:])]))
