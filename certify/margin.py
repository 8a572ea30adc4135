"""Rows that turn a network's outputs into what has to stay positive."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Rows(Protocol):
    """Linear functions of a network's `m` flattened outputs, made dense a chunk at a time."""

    def __len__(self) -> int: ...

    def dense(self, part: slice) -> Tensor:
        """Return the rows in `part` as a matrix `(r, m)`."""
        ...

    def of(self, output: Tensor) -> Tensor:
        """Apply all rows to outputs `(n, m)`; returns `(n, r)`."""
        ...


@dataclass(frozen=True)
class DenseRows:
    """Rows given as one matrix.

    Attributes:
        matrix: `(r, m)`.
    """

    matrix: Tensor

    def __len__(self) -> int:
        return len(self.matrix)

    def dense(self, part: slice) -> Tensor:
        """See `Rows`."""
        return self.matrix[part]

    def of(self, output: Tensor) -> Tensor:
        """See `Rows`."""
        return output @ self.matrix.T


@dataclass(frozen=True)
class SparseRows:
    """Rows with few entries each: a segmentation's margins would fill gigabytes if dense.

    Attributes:
        columns: `(r, t)`, which outputs each row adds up; all different within a row.
        values: `(r, t)`, their factors.
        outputs: Number `m` of flattened outputs.
    """

    columns: Tensor
    values: Tensor
    outputs: int

    def __len__(self) -> int:
        return len(self.columns)

    def dense(self, part: slice) -> Tensor:
        """See `Rows`."""
        columns, values = self.columns[part], self.values[part]
        return values.new_zeros(len(columns), self.outputs).scatter_(1, columns, values)

    def of(self, output: Tensor) -> Tensor:
        """See `Rows`."""
        return (output[:, self.columns] * self.values).sum(dim=-1)

    def pick(self, chosen: Tensor) -> "SparseRows":
        """Return the rows where `chosen`, `(r,)`, is true."""
        return SparseRows(self.columns[chosen], self.values[chosen], self.outputs)


def identity_rows(outputs: int, like: Tensor) -> SparseRows:
    """One row per output, in the data type and on the device of `like`."""
    columns = torch.arange(outputs, device=like.device)[:, None]
    return SparseRows(columns, torch.ones_like(columns, dtype=like.dtype), outputs)


def and_negated(rows: Rows) -> Rows:
    """Return `rows` followed by their negatives: lower limits of both are limits on both sides."""
    if isinstance(rows, SparseRows):
        columns = torch.cat([rows.columns, rows.columns])
        return SparseRows(columns, torch.cat([rows.values, -rows.values]), rows.outputs)
    matrix = rows.dense(slice(None))
    return DenseRows(torch.cat([matrix, -matrix]))


def class_margins(output: Tensor, target: Tensor) -> SparseRows:
    """Rows of one case that give, at each position, the true class's margin over each other one.

    Args:
        output: `(k, *s)`, of which only shape, type and device count; no `s` for a classifier.
        target: `(*s)`, class indices.

    Returns:
        `(k - 1) * prod(s)` rows; those of one position lie together, positions in their order.
    """
    classes, positions = len(output), target.numel()
    place = torch.arange(positions, device=output.device)[:, None]
    true = target.reshape(-1, 1).to(output.device)
    rest = torch.arange(classes - 1, device=output.device)[None]
    other = rest + (rest >= true)
    columns = torch.stack([(true * positions + place).expand_as(other), other * positions + place])
    values = torch.tensor([1.0, -1.0]).to(output).expand(other.numel(), 2)
    return SparseRows(columns.flatten(start_dim=1).T, values, output.numel())


def sign_margins(output: Tensor, target: Tensor) -> SparseRows:
    """Rows of one multilabel case: each logit, negated where the truth is absent.

    Args:
        output: `(k,)`, of which only shape, type and device count.
        target: `(k,)`, flags.
    """
    columns = torch.arange(output.numel(), device=output.device)[:, None]
    values = torch.where(target.to(output.device) > 0, 1.0, -1.0).to(output)[:, None]
    return SparseRows(columns, values, output.numel())


def margin_rows(target: Tensor, classes: int) -> Tensor:
    """Rows of a batch of classified cases, `(b, k - 1, k)`, from targets `(b,)`."""
    like = torch.empty(classes, device=target.device)
    return torch.stack([class_margins(like, label).dense(slice(None)) for label in target])
