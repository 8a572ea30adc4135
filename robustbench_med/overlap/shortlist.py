"""The few most alike images of other patients, found exactly, by blocked matrix products."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.overlap.fingerprint import Fingerprints, Whitening, turned_fingerprints

Indices = NDArray[np.int64]
BEST = 3
QUERIES = 512
BLOCK = 4096


@dataclass(frozen=True)
class Shortlist:
    """For each query its most alike images of other patients, the most alike first.

    Attributes:
        place: `(q, k)`, positions in the base; k is at most 3.
        likeness: `(q, k)`, cosine of the whitened fingerprints; at most -1 where there is none.
        turn: `(q, k)`, under which of the `TURNS` of the query.
    """

    place: Indices
    likeness: NDArray[np.float32]
    turn: Indices


@dataclass(frozen=True)
class Base:
    """Images that others are looked up in.

    Attributes:
        vectors: `(n, 63)`, whitened fingerprints.
        owners: `(n,)`, a number per patient.
        whitening: What made the vectors.
    """

    vectors: Fingerprints
    owners: Indices
    whitening: Whitening

    @classmethod
    def of(cls, prints: Fingerprints, owners: Indices, whitening: Whitening) -> "Base":
        """Whiten the fingerprints `(n, 63)`."""
        return cls(whitening(prints), owners, whitening)


def shortlist(prints: Fingerprints, owners: Indices, base: Base) -> Shortlist:
    """Look queries up under all eight turns; images of the same patient are passed over.

    Memory: blocks of 512 by 4096 likenesses, whatever the sizes.

    Args:
        prints: `(q, 63)`, fingerprints of the queries.
        owners: `(q,)`, their patients, numbered as in the base.
        base: What they are looked up in.
    """
    kept = min(BEST, len(base.owners))
    found = [
        _of_block(prints[i : i + QUERIES], owners[i : i + QUERIES], base, kept)
        for i in range(0, len(prints), QUERIES)
    ]
    if not found:
        none = np.zeros((0, kept))
        return Shortlist(none.astype(np.int64), none.astype(np.float32), none.astype(np.int64))
    return Shortlist(
        np.concatenate([part.place for part in found]),
        np.concatenate([part.likeness for part in found]),
        np.concatenate([part.turn for part in found]),
    )


def _of_block(prints: Fingerprints, owners: Indices, base: Base, kept: int) -> Shortlist:
    turns = torch.from_numpy(base.whitening(turned_fingerprints(prints)))
    vectors, theirs = torch.from_numpy(base.vectors), torch.from_numpy(base.owners)
    mine = torch.from_numpy(owners)
    best = torch.full((len(prints), kept), -2.0)
    place = torch.zeros((len(prints), kept), dtype=torch.int64)
    for start in range(0, len(vectors), BLOCK):
        likeness = _likeness(turns, vectors[start : start + BLOCK])
        likeness.masked_fill_(mine[:, None] == theirs[None, start : start + BLOCK], -2.0)
        value, where = likeness.topk(min(kept, likeness.shape[1]), dim=1)
        best, order = torch.cat([best, value], dim=1).topk(kept, dim=1)
        place = torch.cat([place, where + start], dim=1).gather(1, order)
    by_turn = torch.einsum("tqd,qkd->qkt", turns, vectors[place])
    return Shortlist(place.numpy(), best.numpy(), by_turn.argmax(dim=2).numpy())


def _likeness(turns: Tensor, vectors: Tensor) -> Tensor:
    best = turns[0] @ vectors.T
    for turn in turns[1:]:
        torch.maximum(best, turn @ vectors.T, out=best)
    return best
