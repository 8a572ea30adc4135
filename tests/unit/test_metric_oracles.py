"""What other libraries answer: the same where all is defined, and each edge case of docs/metric.md.

MONAI, torchmetrics and scikit-learn compute in single precision or in double; where MONAI's own
rounding is the limit, its surfaces are compared exactly and its distances to single precision.
"""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning
from torch.nn import functional as F

from robustbench_med.errors import CaseError
from robustbench_med.metrics.detection import Detection
from robustbench_med.metrics.dice import Dice
from robustbench_med.metrics.hausdorff import Hausdorff
from robustbench_med.metrics.surface_dice import SurfaceDice
from robustbench_med.metrics.surface_distance import SurfaceDistance
from robustbench_med.statistics.auc import auc
from robustbench_med.statistics.detection import detection_scores
from robustbench_med.statistics.scores import Meaning, ProbeEntry, Scores

REASON = "an oracle of these tests; the extra 'dev' brings it"
pytestmark = [
    pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class:UserWarning"),
    pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning"),
]
EMPTY = torch.zeros(1, 32, 32, dtype=torch.long)
THERE = EMPTY.clone()
THERE[:, 10:18, 10:18] = 1
EDGES = {"both": (EMPTY, EMPTY), "predicted": (EMPTY, THERE), "true": (THERE, EMPTY)}


@pytest.fixture(scope="module")
def monai():
    # It changes the filters of warnings as it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.metrics", reason=REASON)


@pytest.fixture(scope="module")
def torchmetrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchmetrics.segmentation", reason=REASON)
        return pytest.importorskip("torchmetrics", reason=REASON)


def one_hot(mask, classes=2):
    return F.one_hot(mask, classes).movedim(-1, 1)


def ours(metric, predicted, true, spacing=(1.0, 1.0, 1.0)):
    extra = {} if isinstance(metric, Dice) else {"context": {"spacing": torch.tensor([spacing])}}
    return {k: v.item() for k, v in metric(one_hot(predicted).float(), true, **extra).items()}


def shapes():
    """Pairs of masks of which neither is empty, with spacings."""
    stream = torch.Generator().manual_seed(6)
    for shape, spacing in (
        ((20, 24), (1.0, 1.0)),
        ((20, 24), (1.5, 0.75)),
        ((6, 12, 10), (8, 1.5, 1)),
    ):
        for density in (0.02, 0.6):
            pair = [torch.rand(1, *shape, generator=stream) < d for d in (density, 0.3)]
            yield *(mask.long() for mask in pair), tuple(map(float, spacing))


def test_dice_is_monai_s_torchmetrics_and_scikit_learn_s(monai, torchmetrics):
    for predicted, true, _ in shapes():
        found = ours(Dice(), predicted, true)["value"]
        flat = true.flatten(), predicted.flatten()
        assert found == pytest.approx(sklearn_metrics.f1_score(*flat), abs=1e-10)
        pair = one_hot(predicted), one_hot(true)
        theirs = monai.compute_dice(*pair, include_background=False).item()
        score = torchmetrics.functional.segmentation.dice_score(
            *pair, num_classes=2, include_background=False, input_format="one-hot"
        )
        assert (theirs, score.item()) == pytest.approx((found, found), rel=1e-6)


def test_distances_are_those_between_monai_s_surfaces(monai):
    utils = pytest.importorskip("monai.metrics.utils", reason=REASON)
    for predicted, true, spacing in shapes():
        edges = [edge.numpy() for edge in utils.get_mask_edges(predicted[0], true[0], crop=False)]
        pairs = cdist(*(np.argwhere(edge) * spacing for edge in edges))
        there, back = pairs.min(axis=1), pairs.min(axis=0)
        both, full = np.concatenate([there, back]), (9.0, *spacing)[-3:]
        expected = max(np.percentile(way, 95) for way in (there, back))
        assert ours(Hausdorff(), predicted, true, full)["value"] == pytest.approx(
            expected, abs=1e-10
        )
        found = ours(SurfaceDistance(), predicted, true, full)["value"]
        assert found == pytest.approx(both.mean(), abs=1e-10)
        found = ours(SurfaceDice(1.2), predicted, true, full)["value"]
        assert found == pytest.approx((both <= 1.2).mean(), abs=1e-10)


def test_surface_metrics_are_monai_s_to_its_single_precision(monai):
    for predicted, true, spacing in shapes():
        pair, full = (one_hot(predicted), one_hot(true)), (9.0, *spacing)[-3:]
        theirs = [
            monai.compute_hausdorff_distance(*pair, percentile=95, spacing=spacing),
            monai.compute_hausdorff_distance(*pair, spacing=spacing),
            monai.compute_average_surface_distance(*pair, symmetric=True, spacing=spacing),
            monai.compute_surface_dice(*pair, [1.2], spacing=spacing),
        ]
        metrics = Hausdorff(), Hausdorff(percentile=100), SurfaceDistance(), SurfaceDice(1.2)
        found = [ours(metric, predicted, true, full)["value"] for metric in metrics]
        assert found == pytest.approx([value.item() for value in theirs], rel=1e-6)


def test_edge_dice_of_empty_masks(monai, torchmetrics):
    value = {name: ours(Dice(), *pair) for name, pair in EDGES.items()}
    assert math.isnan(value["both"]["value"])
    assert math.isnan(value["both"]["penalised"])
    for name in ("predicted", "true"):
        assert (value[name]["value"], value[name]["penalised"]) == (0, 1)

    def theirs(name, **settings):
        pair = map(one_hot, EDGES[name])
        return monai.compute_dice(*pair, include_background=False, **settings).item()

    assert math.isnan(theirs("both"))
    assert theirs("both", ignore_empty=False) == 1
    assert theirs("predicted") == 0
    assert math.isnan(theirs("true"))
    score = torchmetrics.segmentation.DiceScore(2, include_background=False, input_format="one-hot")
    for name, expected in (("predicted", 0), ("true", 0)):
        assert score(*map(one_hot, EDGES[name])) == expected
    score.reset()
    assert score(*map(one_hot, EDGES["both"])).isnan()
    f1 = torchmetrics.functional.classification.binary_f1_score
    assert [f1(*EDGES[name]).item() for name in EDGES] == [0, 0, 0]
    with pytest.warns(UndefinedMetricWarning, match="no true nor predicted samples"):
        assert sklearn_metrics.f1_score(EMPTY.flatten(), EMPTY.flatten()) == 0
    for name in ("predicted", "true"):
        predicted, true = EDGES[name]
        assert sklearn_metrics.f1_score(true.flatten(), predicted.flatten()) == 0


@pytest.mark.parametrize("name", EDGES)
def test_edge_distances_of_empty_masks(monai, torchmetrics, name):
    diagonal = 32 * math.sqrt(2)
    for metric in (Hausdorff(), Hausdorff(percentile=100), SurfaceDistance()):
        found = ours(metric, *EDGES[name])
        expected = (math.nan, math.nan) if name == "both" else (diagonal, 1)
        assert tuple(found.values()) == pytest.approx(expected, nan_ok=True)
    pair = [one_hot(mask) for mask in EDGES[name]]
    lone = math.nan if name == "both" else math.inf
    theirs = [
        monai.compute_hausdorff_distance(*pair, percentile=95),
        monai.compute_hausdorff_distance(*pair),
        monai.compute_average_surface_distance(*pair, symmetric=True),
    ]
    assert [value.item() for value in theirs] == pytest.approx([math.nan, lone, lone], nan_ok=True)
    settings = {"num_classes": 2, "input_format": "one-hot"}
    distance = torchmetrics.functional.segmentation.hausdorff_distance
    if name == "both":
        with pytest.raises(RuntimeError, match="reduction dim"):
            distance(*pair, **settings)
    else:
        assert distance(*pair, **settings).item() == math.inf


@pytest.mark.parametrize("name", EDGES)
def test_edge_surface_dice_of_empty_masks(monai, name):
    found = ours(SurfaceDice(2.0), *EDGES[name])
    expected = (math.nan, math.nan) if name == "both" else (0, 1)
    assert tuple(found.values()) == pytest.approx(expected, nan_ok=True)
    theirs = monai.compute_surface_dice(*map(one_hot, EDGES[name]), [2.0]).item()
    assert theirs == pytest.approx(expected[0], nan_ok=True)


def test_edge_mean_over_cases_that_miss_the_structure(monai):
    true = THERE.expand(10, 32, 32)
    theirs, mine = [], []
    for missed in (0, 5, 9, 10):
        answer = true.roll(4, dims=-1).clone()
        answer[:missed] = 0
        mean = monai.HausdorffDistanceMetric(percentile=95)
        mean(one_hot(answer), one_hot(true))
        theirs.append(mean.aggregate().item())
        context = {"spacing": torch.ones(10, 3)}
        mine.append(Hausdorff()(one_hot(answer).float(), true, context)["value"].mean().item())
    # MONAI: as good with nine of ten missed, and perfect with all of them.
    assert theirs == [4, 4, 4, 0]
    miss = 32 * math.sqrt(2)
    assert mine == pytest.approx([4, (4 + miss) / 2, (4 + 9 * miss) / 10, miss])


def test_edge_mean_over_cases_with_a_structure_seen_where_none_is(monai):
    predicted, true = torch.cat([THERE, THERE]), torch.cat([THERE, EMPTY])
    mean = monai.DiceMetric(include_background=False)
    mean(one_hot(predicted), one_hot(true))
    assert mean.aggregate().item() == 1
    assert Dice()(one_hot(predicted).float(), true)["value"].mean().item() == 0.5


def test_edge_mean_over_cases_without_the_structure(monai):
    mean = monai.DiceMetric(include_background=False)
    mean(one_hot(EMPTY), one_hot(EMPTY))
    assert mean.aggregate().item() == 0
    assert math.isnan(ours(Dice(), EMPTY, EMPTY)["value"])


def test_edge_voxels_without_a_size(monai, torchmetrics):
    moved = THERE.roll(3, dims=-1)
    with pytest.raises(CaseError, match="spacing"):
        Hausdorff()(one_hot(moved).float(), THERE)
    pair = one_hot(moved), one_hot(THERE)
    distance = torchmetrics.functional.segmentation.hausdorff_distance
    settings = {"num_classes": 2, "input_format": "one-hot"}
    assert monai.compute_hausdorff_distance(*pair).item() == 3
    assert distance(*pair, **settings).item() == 3
    found = ours(Hausdorff(percentile=100), moved, THERE, (9.0, 1.0, 2.0))["value"]
    assert found == distance(*pair, spacing=[1.0, 2.0], **settings).item() == 6


@pytest.mark.parametrize("present", [0, 1])
def test_edge_area_under_the_curve_of_one_class(monai, torchmetrics, present):
    output = torch.tensor([[0.0, -2.0], [0.0, 1.0], [0.0, -0.5]])
    target = torch.full((3,), present)
    found = Detection()(output, target)
    assert found["value"].isfinite().all()
    positive = found["true"].numpy() == 1
    score = np.where(positive, found["value"], 1 - found["value"])
    assert math.isnan(auc(score, positive, np.arange(3), 3).value)
    with pytest.warns(UndefinedMetricWarning, match="Only one class"):
        assert math.isnan(sklearn_metrics.roc_auc_score(target, score))
    with pytest.warns(UserWarning, match="y values can not be all"):
        theirs = monai.compute_roc_auc(torch.tensor(score)[:, None], target[:, None])
    assert math.isnan(theirs)
    area = torchmetrics.functional.classification.binary_auroc
    with pytest.warns(UserWarning, match=r"No (positive|negative) samples in targets"):
        assert area(torch.tensor(score), target) == 0


def test_the_area_under_the_curve_of_both_classes_is_scikit_learn_s():
    stream = torch.Generator().manual_seed(9)
    output, target = torch.randn(60, 3, generator=stream), torch.arange(60) % 3
    found = Detection(label=2)(output, target)
    positive = found["true"].numpy() == 1
    score = np.where(positive, found["value"], 1 - found["value"])
    expected = sklearn_metrics.roc_auc_score(target == 2, output.double().softmax(dim=1)[:, 2])
    assert auc(score, positive, np.arange(60), 60).value == pytest.approx(expected, abs=1e-10)


def test_edge_sensitivity_without_a_positive_case(monai, torchmetrics):
    called, target = torch.tensor([0, 1, 0]), torch.zeros(3, dtype=torch.long)
    with pytest.warns(UndefinedMetricWarning, match="no true samples"):
        assert sklearn_metrics.recall_score(target, called) == 0
    assert torchmetrics.functional.classification.binary_recall(called, target) == 0
    matrix = monai.get_confusion_matrix(called[None, None], target[None, None])
    assert monai.compute_confusion_matrix_metric("sensitivity", matrix).isnan().all()
    logits = torch.stack([torch.zeros(3), 2.0 * called - 1], dim=1)
    found = Detection(threshold=0.5)(logits, target)
    scores = Scores(
        "ill",
        Meaning("higher", reads="detection", threshold=0.5),
        (ProbeEntry("clean", "clean", 0.0),),
        found["value"][:, None].numpy(),
        np.ones((3, 1), dtype=bool),
        np.zeros((3, 1), dtype=bool),
        truth=found["true"].numpy(),
    )
    rates = {rate.metric: rate.values[:, 0] for rate in detection_scores(scores)}
    assert np.isnan(rates["ill.sensitivity"]).all()
    assert rates["ill.specificity"].tolist() == [1, 0, 1]
