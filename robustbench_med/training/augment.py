"""Harmless changes to training cases, each case by its own stream."""

import torch
from torch import Tensor

from robustbench_med.cases import Batch, Cohort
from robustbench_med.errors import InputError
from robustbench_med.streams import CaseRng

LABELLED = ("classification", "multilabel", "segmentation")


def check_flip(cohort: Cohort) -> None:
    """Refuse cases whose meaning a mirror would change.

    Raises:
        InputError: If targets are neither classes nor masks, or the context holds maps.
    """
    if cohort.task.kind not in LABELLED:
        raise InputError(
            f"train: augment 'flip' is for {', '.join(LABELLED)}, got {cohort.task.kind}"
        )
    case = cohort.cases[0]
    width = case.image.shape[-1]
    maps = [n for n, value in case.context.items() if value.ndim > 1 and value.shape[-1] == width]
    if maps:
        raise InputError(f"train: augment 'flip' would not mirror the context's {', '.join(maps)}")


def flip(batch: Batch, rng: CaseRng) -> Batch:
    """Mirror each case, image and mask, on its last axis with probability one half."""
    mirrored = rng.uniform().to(batch.image.device) < 0.5
    image = _mirror(batch.image, mirrored)
    is_mask = batch.target.shape[1:] == batch.image.shape[2:]
    target = _mirror(batch.target, mirrored) if is_mask else batch.target
    return Batch(batch.case_ids, image, target, batch.context)


def _mirror(values: Tensor, mirrored: Tensor) -> Tensor:
    chosen = mirrored.view(-1, *[1] * (values.ndim - 1))
    return torch.where(chosen, values.flip(-1), values)
