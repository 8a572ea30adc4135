"""Whether the leaves of a claim, read as a tree of cuts, leave no part of the set out."""

from collections.abc import Sequence

from robustbench_med.errors import IntegrityError
from robustbench_med.proofs.proof import Cut, Proof

Step = tuple[int | None, Cut]


def paths(proof: Proof) -> list[tuple[Step, ...]]:
    """List the cuts of each leaf from the whole set down; those of ReLUs beside their base.

    A ReLU is counted within what its base sees, so cuts of two bases never fit together.
    """
    bases = [[(None, cut) for cut in base.cuts] for base in proof.bases]
    return [(*bases[leaf.base], *((leaf.base, cut) for cut in leaf.cuts)) for leaf in proof.leaves]


def covered(claim: int, leaves: Sequence[tuple[Step, ...]]) -> None:
    """Check that some leaves cover the set: each cut must have both of its sides.

    Args:
        claim: Which claim, for the message.
        leaves: The paths of its leaves, at least one.

    Raises:
        IntegrityError: If not, with the cut that lacks a side or that differs.
    """
    open_parts = [list(leaves)]
    while open_parts:
        part = open_parts.pop()
        if any(not path for path in part):
            continue
        owner, first = part[0][0]
        sides: dict[str, list[tuple[Step, ...]]] = {"low": [], "high": []}
        for path in part:
            base, cut = path[0]
            if (base, *_place(cut)) != (owner, *_place(first)):
                raise IntegrityError(
                    f"the leaves of claim {claim} are no tree: one is cut at {_words(first)}, "
                    f"another at {_words(cut)}"
                )
            sides[cut.side].append(path[1:])
        for side, rest in sides.items():
            if not rest:
                raise IntegrityError(
                    f"the leaves of claim {claim} do not cover the set: nothing is said of the "
                    f"{side} side of {_words(first)}"
                )
            open_parts.append(rest)


def _place(cut: Cut) -> tuple[int, int, float]:
    return cut.node, cut.element, cut.at


def _words(cut: Cut) -> str:
    return f"element {cut.element} of node {cut.node} at {cut.at}"
