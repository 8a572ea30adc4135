"""Whether a case is broken already, so that no more is spent on it."""

import torch
from torch import Tensor

from robustbench_med.cases import Batch, Task


def broken(task: Task, output: Tensor, target: Tensor) -> Tensor | None:
    """Whether the model's decision on each case is wrong, as the metric `correct` judges it.

    Args:
        task: The model's.
        output: `(b, k)`, logits.
        target: Class indices `(b,)`, or flags `(b, k)`.

    Returns:
        `(b,)`, bool, False where an output is not finite; None for a task without a decision on
        the whole case: segmentation, regression, reconstruction, super-resolution.
    """
    if task.kind == "classification":
        wrong = output.argmax(dim=1) != target
    elif task.kind == "multilabel":
        wrong = ((output > 0) != (target > 0)).any(dim=1)
    else:
        return None
    return wrong & output.isfinite().all(dim=1)


def select(batch: Batch, rows: Tensor) -> Batch:
    """Return the cases of `batch` at `rows`, indices `(n,)`, in that order."""
    case_ids = tuple(batch.case_ids[row] for row in rows.tolist())
    context = {name: value[rows] for name, value in batch.context.items()}
    return Batch(case_ids, batch.image[rows], batch.target[rows], context)


def where_open(done: Tensor) -> Tensor:
    """Indices of the cases that are not `done`, `(n,)`."""
    return torch.nonzero(~done).flatten()
