"""How a classification forest gets its trees: grown by scikit-learn, kept as tensors."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.cases import Cohort
from robustbench_med.errors import InputError
from robustbench_med.networks.forest import Forest, Size, features

TRIED = 0.5  # of the features at each node


def fit_forest(network: Forest, cohort: Cohort, *, pixels: int = 1024, seed: int = 0) -> None:
    """Grow the trees on a cohort; equal cohort and settings give equal trees.

    Args:
        network: Whose trees are replaced.
        cohort: Slices with labels.
        pixels: How many of each case are learned from, drawn at random.
        seed: Of this draw and of the trees.

    Raises:
        InputError: If a case does not fit, or scikit-learn is not installed.
    """
    if pixels < 1 or cohort.task.kind != "segmentation" or len(cohort) == 0:
        raise InputError(
            "forest: expected at least 1 pixel of each case, and at least 1 case of a "
            f"segmentation, got {pixels} and {len(cohort)} of {cohort.task.kind}"
        )
    generator = torch.Generator().manual_seed(seed)
    values, labels = [], []
    for case in cohort.cases:
        network.check(case.image[None])
        _check_labels(case.target, case.image, network.classes, case.case_id)
        drawn = torch.randperm(case.target.numel(), generator=generator)[:pixels]
        found = features(case.image[None], network.size.boxes)[0].flatten(start_dim=1)
        values.append(found[:, drawn].T.numpy())
        labels.append(case.target.flatten()[drawn].numpy())
    learner = _learner(network.size, seed)
    learner.fit(np.concatenate(values), np.concatenate(labels))
    take_trees(network, learner)


def take_trees(network: Forest, learner: Any) -> None:  # noqa: ANN401
    """Keep the trees of a fitted scikit-learn forest, which has at most the network's sizes."""
    columns = torch.from_numpy(learner.classes_.astype(np.int64))
    for tensor in (network.feature, network.threshold, network.share):
        tensor.zero_()
    network.child.fill_(-1)
    for number, grown in enumerate(learner.estimators_):
        tree = grown.tree_
        is_leaf = tree.children_left < 0
        inner, leaves = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
        place = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)
        children = np.stack([tree.children_left, tree.children_right], axis=1)[inner]
        own = slice(len(inner))
        network.feature[number, own] = torch.from_numpy(tree.feature[inner].astype(np.int32))
        network.threshold[number, own] = torch.from_numpy(_rounded_down(tree.threshold[inner]))
        network.child[number, own] = torch.from_numpy(place[children].astype(np.int32))
        shares = torch.from_numpy(tree.value[leaves, 0]).float()
        network.share[number][: len(leaves)][:, columns] = shares


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 up to each threshold: a float32 is on the same side of both."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def _check_labels(target: Tensor, image: Tensor, classes: int, case_id: str) -> None:
    if target.shape != image.shape[1:] or target.min() < 0 or target.max() >= classes:
        raise InputError(
            f"forest: case {case_id!r}: expected labels 0 to {classes - 1} on the image's grid "
            f"{tuple(image.shape[1:])}, got {tuple(target.shape)} up to {target.max().item()}"
        )


def _learner(size: Size, seed: int) -> Any:  # noqa: ANN401
    try:
        from sklearn.ensemble import ExtraTreesClassifier
    except ImportError as error:
        raise InputError(
            "forest: growing trees needs scikit-learn; install it with: "
            "pip install 'robustbench-med[forest]'"
        ) from error
    return ExtraTreesClassifier(
        n_estimators=size.trees, max_leaf_nodes=size.leaves, max_features=TRIED, random_state=seed
    )
