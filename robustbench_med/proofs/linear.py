"""Linear functions of a network's values, bounded from below by going back to its input."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robustbench_med.proofs.evaluation import forward
from robustbench_med.proofs.intervals import Range, box, interval, magnitude
from robustbench_med.proofs.network import Floats, Network, Node, size
from robustbench_med.proofs.patches import Patch, back, together
from robustbench_med.proofs.proof import InputSet
from robustbench_med.proofs.relaxation import Lines
from robustbench_med.proofs.rounding import EPSILON, TINY, least, least_in_ball, lowered, rounding
from robustbench_med.proofs.transposes import fan_out, shift

CHUNK = 2**26
FEW = 0.8  # of the rows: copying what is left costs as much as a few steps with it


@dataclass(frozen=True)
class Ground:
    """What is known of a network's first values over a set; it grows node by node.

    Attributes:
        network: The network.
        inputs: The set.
        ranges: What each value so far is at least and at most.
        losses: `(n,)` of each value so far: what a coefficient of 1 loses to rounding on its way
            back through the node; None where that is exact.
        lines: Of each ReLU so far.
        budget: Bytes that one array of coefficients may take.
    """

    network: Network
    inputs: InputSet
    ranges: list[Range] = field(default_factory=list)
    losses: list[Floats | None] = field(default_factory=list)
    lines: dict[int, Lines] = field(default_factory=dict)
    budget: int = CHUNK

    def add(self) -> None:
        """Bound the value of the next node by intervals."""
        node = self.network.nodes[len(self.ranges)]
        inputs = [self.ranges[i] for i in node.inputs]
        self.losses.append(_loss(node, inputs))
        self.ranges.append(interval(node, inputs) if inputs else box(self.inputs))

    @property
    def rows_at_once(self) -> int:
        """How many rows' coefficients fit in the budget."""
        return max(1, self.budget // (8 * max(size(node.shape) for node in self.network.nodes)))


def lowest(
    ground: Ground,
    rows: Mapping[int, Patch],
    lines: Mapping[int, Lines] | None,
    enough: Floats | None = None,
) -> Floats:
    """Bound sums of linear functions of some nodes' values from below, over the set of `ground`.

    Backward substitution: the coefficients of a value become coefficients of what it is computed
    from, until only the input is left. At every ReLU on the way the values that are then left are
    also bounded by their ranges, and the best limit found is returned. The result is below the
    true minimum in real arithmetic: a coefficient computed as `A W` is wrong by at most
    g (|A| |W|), which moves the bound by at most g |A| (|W| m), m the largest magnitude of the
    values that W is applied to. `|W| m` is the same for all rows: so the loss to rounding is one
    product of |A| with a vector at every node.

    Args:
        ground: Of at least all nodes up to the last of `rows`.
        rows: Coefficients by node, of `r` rows each.
        lines: Of each ReLU; None to bound what comes out of every ReLU by its range.
        enough: `(r,)`: a row whose limit is above that need not be bounded more closely.

    Returns:
        `(r,)`; minus infinity where float64 overflows.

    Source: Zhang et al., NeurIPS 2018, arXiv:1811.00866, section 3 (CROWN).
    """
    count = len(next(iter(rows.values())).rows)
    state = _Descent(ground, dict(rows), count, enough)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for position in range(max(rows), 0, -1):
            if position not in state.rows:
                continue
            if ground.network.nodes[position].kind != "relu":
                state.through_affine(position)
            elif lines is None:
                state.rest_on(position)
            else:
                state.settle()
                state.drop()
                if not len(state.alive):
                    break
                state.through_relu(position, lines[position])
        if len(state.alive):
            state.settle()
        return np.where(np.isfinite(state.best), state.best, -np.inf)


class _Descent:
    """The coefficients that are left, what was gathered beside them, and what rounding may cost."""

    def __init__(
        self, ground: Ground, rows: dict[int, Patch], count: int, enough: Floats | None
    ) -> None:
        self.ground, self.rows, self.enough = ground, rows, enough
        self.alive = np.arange(count)
        self.constant = np.zeros(count)
        # Underflow: each coefficient and each sum hides less than TINY.
        hidden = sum(float(magnitudes.sum()) for magnitudes in map(_most, ground.ranges))
        self.loss = np.full(count, TINY * (1 + hidden))
        self.best = np.full(count, -np.inf)

    def through_affine(self, position: int) -> None:
        node, nodes = self.ground.network.nodes[position], self.ground.network.nodes
        patch = self.rows.pop(position)
        flat = patch.rows.reshape(len(patch.rows), -1)
        loss, added = self.ground.losses[position], shift(node)
        if loss is not None:
            self.loss += np.abs(flat) @ patch.of(loss.reshape(node.shape))
        if added is not None:
            self._gather(flat @ patch.of(added.reshape(node.shape)))
        shapes = [nodes[i].shape for i in node.inputs]
        for source, part in zip(node.inputs, back(node, patch, shapes), strict=True):
            self._give(source, part)

    def through_relu(self, position: int, lines: Lines) -> None:
        patch = self.rows.pop(position)
        flat = patch.rows.reshape(len(patch.rows), -1)
        shape = self.ground.network.nodes[position].shape
        lines = lines.of_rows(self.alive).of_patch(patch, shape)
        lift = np.minimum(flat, 0) @ lines.lift
        self.loss += rounding(flat.shape[1]) * np.abs(lift)
        self._gather(lift)
        kept = flat * np.where(flat > 0, lines.below, lines.above)
        source = self.ground.network.nodes[position].inputs[0]
        self.loss += np.abs(kept) @ (EPSILON * patch.of(_most(self.ground.ranges[source])))
        self._give(source, Patch(kept.reshape(patch.rows.shape), patch.origin))

    def rest_on(self, position: int) -> None:
        self._gather(self._least(position, self.rows.pop(position)))

    def settle(self) -> None:
        total, loss = self.constant, self.loss
        for position, patch in self.rows.items():
            total = total + (value := self._least(position, patch))
            loss = loss + 2 * EPSILON * (np.abs(value) + np.abs(total))
        # The losses are sums of rounded, never negative terms.
        found = np.fmax(self.best[self.alive], lowered(total - 1.001 * loss))
        # A row that has enough keeps what it has, whether or not it goes on beside others: so its
        # limit does not depend on them.
        self.best[self.alive] = np.where(self._have_enough(), self.best[self.alive], found)

    def drop(self) -> None:
        """Go on without the rows that have enough, as soon as they are many."""
        kept = ~self._have_enough()
        if kept.mean() > FEW:
            return
        self.alive, self.constant, self.loss = (
            self.alive[kept],
            self.constant[kept],
            self.loss[kept],
        )
        self.rows = {at: Patch(patch.rows[kept], patch.origin) for at, patch in self.rows.items()}

    def _have_enough(self) -> NDArray[np.bool_]:
        if self.enough is None:
            return np.zeros(len(self.alive), dtype=np.bool_)
        return np.asarray(self.best[self.alive] > self.enough[self.alive])

    def _least(self, position: int, patch: Patch) -> Floats:
        low, high = self.ground.ranges[position]
        flat = patch.rows.reshape(len(patch.rows), -1)
        inputs = self.ground.inputs
        value = least(flat, patch.of(low), patch.of(high))
        if position > 0 or inputs.centre is None or not np.isfinite(inputs.radius):
            return value
        free = inputs.high > inputs.low
        centre = patch.of(np.where(free, inputs.centre, inputs.low))
        radius = np.asarray(inputs.radius)
        return np.fmax(
            value, least_in_ball(flat, centre, radius, patch.of(free.astype(np.float64)))
        )

    def _gather(self, values: Floats) -> None:
        self.constant = self.constant + values
        self.loss += EPSILON * np.abs(self.constant)

    def _give(self, position: int, patch: Patch) -> None:
        if position not in self.rows:
            self.rows[position] = patch
            return
        added = together(self.rows[position], patch)
        self.rows[position] = added
        most = EPSILON * added.of(_most(self.ground.ranges[position]))
        self.loss += np.abs(added.rows).reshape(len(added.rows), -1) @ most


def _loss(node: Node, inputs: list[Range]) -> Floats | None:
    if node.kind in ("input", "relu"):
        return None
    added, terms = shift(node), fan_out(node)
    loss = np.zeros(size(node.shape))
    if terms:
        weighed = forward(magnitude(node, 0.0), [_most(inputs[0])[None]])[0]
        loss += rounding(terms) * (weighed.ravel() + TINY)
    if added is not None:
        loss += rounding(loss.size) * np.abs(added)
    return loss if terms or added is not None else None


def _most(limits: Range) -> Floats:
    return np.maximum(np.abs(limits[0]), np.abs(limits[1]))
