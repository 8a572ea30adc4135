"""What is known to be true of a case, as a few named values that splits can be compared by."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robustbench_med.cases import Attribute, Case, Task

VALUED = ("multilabel", "regression")


def truth_of(case: Case, task: Task) -> Mapping[str, Attribute]:
    """Return a case's truth by name.

    Returns:
        The class by `class`; each finding by its name, True or False; each value of a
        regression; for masks, the share of the image in each structure (classes after the
        first), by `size of <class>`. Nothing for reconstruction and super-resolution. None
        where a value is not known.
    """
    target = case.target.detach().cpu()
    if task.kind == "segmentation":
        return _sizes(target, task.classes)
    if task.kind == "classification":
        return {"class": task.classes[int(target)]}
    if task.kind not in VALUED:
        return {}
    named = zip(task.classes, target.double().reshape(-1).tolist(), strict=True)
    return {name: _known(value, task.kind) for name, value in named}


def _sizes(mask: Tensor, classes: Sequence[str]) -> Mapping[str, Attribute]:
    counts = torch.bincount(mask.reshape(-1).long(), minlength=len(classes))
    shares = (counts.double() / max(1, mask.numel())).tolist()
    return {f"size of {name}": shares[index] for index, name in enumerate(classes) if index > 0}


def _known(value: float, kind: str) -> Attribute:
    if math.isnan(value):
        return None
    return value > 0.5 if kind == "multilabel" else value
