"""A proof: what is claimed of a network over a set, and all that is needed to derive it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_med.proofs.network import Floats

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class InputSet:
    """All inputs between two corners, and within an l2 ball where there is one.

    Attributes:
        low: Of the network's input shape.
        high: Of the same shape, nowhere below.
        centre: Of the ball; None without one.
        radius: Of the ball.
    """

    low: Floats
    high: Floats
    centre: Floats | None = None
    radius: float = np.inf


@dataclass(frozen=True)
class Claims:
    """Linear functions of the flattened outputs, and what each is claimed to be at least.

    Attributes:
        columns: `(r, t)`, which outputs a row adds up; all different within a row.
        values: `(r, t)`, their factors; a factor of 0 fills up short rows.
        limits: `(r,)`: over the whole set, `sum_t values * output[columns] >= limits`.
    """

    columns: Indices
    values: Floats
    limits: Floats


@dataclass(frozen=True)
class Cut:
    """The half of a set on one side of a value.

    Attributes:
        node: Position of a ReLU, whose input is cut at 0; or 0, where the network's input is cut.
        element: Which element of that value, flat.
        side: "low" keeps what is at most `at`, "high" what is at least.
        at: Where it is cut; 0 for a ReLU.
    """

    node: int
    element: int
    side: Literal["low", "high"]
    at: float = 0.0


@dataclass(frozen=True)
class Base:
    """Limits of every ReLU's input over a part of the set.

    Attributes:
        cuts: Of the network's input, from the whole set down.
        lower: `(*shape)` by position of the ReLU: what its input is at least.
        upper: The same: what it is at most.
        slopes: The same, 0 to 1: a line through the origin that stays below the ReLU where its
            input changes sign; with these lines `lower` and `upper` can be derived.
    """

    cuts: tuple[Cut, ...]
    lower: Mapping[int, Floats]
    upper: Mapping[int, Floats]
    slopes: Mapping[int, Floats]


@dataclass(frozen=True)
class Leaf:
    """Why some rows hold on a part of the set.

    Attributes:
        base: Position of the base that it stands on.
        rows: `(n,)`, positions of the claims.
        cuts: Of ReLU inputs, from the base down.
        slopes: `(n, *shape)` by position of a ReLU: in place of the base's, for these rows.
        multipliers: `(n, len(cuts))`, at least 0: of each cut, by Lagrange; None: all 0.
    """

    base: int
    rows: Indices
    cuts: tuple[Cut, ...] = ()
    slopes: Mapping[int, Floats] = field(default_factory=dict)
    multipliers: Floats | None = None


@dataclass(frozen=True)
class Proof:
    """Claims about a network over a set, with what they follow from.

    For every claim the leaves that name it must cover the set: base cuts, then leaf cuts, read as
    a tree. A claim that no leaf names is derived with intervals alone from the whole set.
    """

    inputs: InputSet
    claims: Claims
    bases: tuple[Base, ...] = ()
    leaves: tuple[Leaf, ...] = ()
