"""Do model and cohort fit together? Asked before anything is computed."""

from itertools import islice

import torch
from torch import Tensor, nn

from robustbench_med.cases import Batch, Bounds, Cohort, Task
from robustbench_med.errors import InputError
from robustbench_med.model import Model

CLASS_KINDS = ("classification", "segmentation")
IMAGE_KINDS = ("reconstruction", "super_resolution")
# A few cases may be answered with NaN; a model that only ever does so tests nothing.
ASKED = 16
# Logits of one case may sum to 1 by chance, those of so many do not.
ENOUGH = 4


def check_agreement(model: Model, cohort: Cohort) -> None:
    """Compare declarations, then ask the model about one case, or more while it says NaN.

    Raises:
        InputError: If the cohort has no cases, or model and cohort disagree on the task, the
            intensities or the output's shape, or the model answers 16 cases with NaN only.
    """
    if len(cohort) == 0:
        raise InputError(f"cohort {cohort.name!r}: expected at least 1 case, got 0")
    for what in ("task", "bounds"):
        told, needed = getattr(model, what), getattr(cohort, what)
        if told != needed:
            raise InputError(f"model and cohort {cohort.name!r} disagree on {what}: "
                             f"the model has {told}, the cohort has {needed}")  # fmt: skip
    network = getattr(model, "network", None)
    if getattr(network, "training", False):
        raise InputError("model: its network is in training mode; call .eval() on it first")
    _check_answers(model, cohort)


def _check_answers(model: Model, cohort: Cohort) -> None:
    """Ask until one answer can be told from NaN and from probabilities."""
    answers: list[Tensor] = []
    for batch in islice(cohort.batches(1), ASKED):
        check_batch(batch, cohort.task, cohort.bounds)
        before = _state(model)
        output = _checked_output(model, batch, cohort.task)
        _check_unchanged(before, _state(model))
        if bool(output.isfinite().any()):
            answers.append(output)
            if not _like_probabilities(output, cohort.task):
                return
    if len(answers) >= ENOUGH:
        raise InputError(
            "model: expected logits, got outputs that are at least 0 and sum to 1 over the "
            "classes; leave the softmax out, or attacks would be weak without a word"
        )
    if not answers:
        raise InputError(
            "model: expected finite outputs, got only NaN or infinity "
            f"for the first {min(ASKED, len(cohort))} cases; check its weights and normalisation"
        )


def _state(model: Model) -> dict[str, object]:
    """Everything that a network keeps: parameters, buffers, and which parts are in training."""
    network = getattr(model, "network", None)
    if not isinstance(network, nn.Module):
        return {}
    held = {name: value.clone() for name, value in network.state_dict().items()
            if isinstance(value, Tensor)}  # fmt: skip
    modes = {f"{name or 'network'}.training": part.training
             for name, part in network.named_modules()}  # fmt: skip
    return {**held, **modes}


def _check_unchanged(before: dict[str, object], after: dict[str, object]) -> None:
    for name, old in before.items():
        new = after.get(name)
        same = torch.equal(old, new) if isinstance(old, Tensor) and isinstance(new, Tensor) else (
            old == new
        )  # fmt: skip
        if not same and not _both_nan(old, new):
            raise InputError(
                f"model: answering changed its {name}, so an answer depends on what was asked "
                "before; keep it as it is in eval mode"
            )


def _both_nan(old: object, new: object) -> bool:
    return isinstance(old, Tensor) and isinstance(new, Tensor) and torch.equal(
        old.isnan(), new.isnan()
    ) and torch.equal(old.nan_to_num(), new.nan_to_num())  # fmt: skip


def check_batch(batch: Batch, task: Task, bounds: Bounds) -> None:
    """Raise `InputError` naming the first case with an illegal voxel, class index or target."""
    pixels = batch.image.flatten(start_dim=1)
    for wrong, what in (
        (~pixels.isfinite(), "finite voxels"),
        ((pixels < bounds[0]) | (pixels > bounds[1]), f"voxels within bounds {bounds}"),
    ):
        _refuse(batch, wrong, f"image: expected {what}", pixels)
    if task.kind in CLASS_KINDS:
        if batch.target.is_floating_point():
            raise InputError(
                f"case {batch.case_ids[0]!r}: target must hold class indices (int64), "
                f"got {batch.target.dtype}"
            )
        labels = batch.target.reshape(len(batch), -1)
        wrong = (labels < 0) | (labels >= len(task.classes))
        _refuse(batch, wrong, f"target: expected classes 0 to {len(task.classes) - 1}", labels)
    if task.kind in IMAGE_KINDS:
        if not batch.target.is_floating_point():
            raise InputError(
                f"case {batch.case_ids[0]!r}: target must be real channels of floating point (a "
                f"complex image as real and imaginary part), got {batch.target.dtype}"
            )
        truth = batch.target.reshape(len(batch), -1)
        _refuse(batch, ~truth.isfinite(), "target: expected finite values", truth)


def _refuse(batch: Batch, wrong: Tensor, expected: str, values: Tensor) -> None:
    if bool(wrong.any()):
        row, column = (int(i) for i in wrong.nonzero()[0])
        raise InputError(
            f"case {batch.case_ids[row]!r}, {expected}, got {values[row, column].item():g}"
        )


def _like_probabilities(output: Tensor, task: Task) -> bool:
    if task.kind not in CLASS_KINDS or bool((output < 0).any()):
        return False
    return bool(((output.sum(dim=1) - 1).abs() < 1e-4).all())


@torch.no_grad()
def _checked_output(model: Model, batch: Batch, task: Task) -> Tensor:
    try:
        output = model(batch.image, batch.context)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"model: cannot answer case {batch.case_ids[0]!r} with image "
            f"{tuple(batch.image.shape[1:])}: {reason}"
        ) from error
    if not isinstance(output, Tensor):
        raise InputError(f"model: expected a tensor, got a {type(output).__name__}")
    expected = expected_shape(task, batch)
    if tuple(output.shape) != expected:
        asked = f"{task.kind}, {len(task.classes)} classes"
        if task.kind in IMAGE_KINDS:
            asked = f"{task.kind}, the target's shape"
        raise InputError(
            f"model: expected output of shape {expected} for images {tuple(batch.image.shape)} "
            f"({asked}), got {tuple(output.shape)}"
        )
    return output


def expected_shape(task: Task, batch: Batch) -> tuple[int, ...]:
    """Shape that a model's output must have for `batch`."""
    if task.kind in ("classification", "multilabel", "regression"):
        return (len(batch), len(task.classes))
    if task.kind == "segmentation":
        return (len(batch), len(task.classes), *batch.target.shape[1:])
    return tuple(batch.target.shape)
