"""Parts of an input set: what cuts leave of it."""

from collections.abc import Sequence
from dataclasses import replace

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.proof import Cut, InputSet


def halved(inputs: InputSet, cuts: Sequence[Cut]) -> InputSet:
    """Cut a set's box, one cut after the other.

    Args:
        inputs: The set.
        cuts: Of the network's input.

    Raises:
        IntegrityError: If a cut is not of the input, or not within the box that it cuts.
    """
    low, high = inputs.low.copy(), inputs.high.copy()
    for cut in cuts:
        if cut.node != 0 or not 0 <= cut.element < low.size:
            raise IntegrityError(
                f"a cut of the input must be of node 0 and one of its {low.size} elements, "
                f"got element {cut.element} of node {cut.node}"
            )
        if not low.flat[cut.element] <= cut.at <= high.flat[cut.element]:
            raise IntegrityError(
                f"a cut of input element {cut.element} must lie in {low.flat[cut.element]!r} to "
                f"{high.flat[cut.element]!r}, got {cut.at!r}"
            )
        (high if cut.side == "low" else low).flat[cut.element] = cut.at
    return replace(inputs, low=low, high=high)
