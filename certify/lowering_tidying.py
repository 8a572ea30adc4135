"""Making a written-out network smaller without changing what it computes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from robustbench_med.certify.lowering_folding import scale_after, scale_before, zeros_before
from robustbench_med.proofs.network import Network, Node

# What may stand at a place instead: another node, or the value of an earlier one.
Simpler = Node | int | None
_Rule = Callable[[Node, Node], Simpler]


def tidied(nodes: Sequence[Node], last: int) -> Network:
    """Keep what the node `last` needs, and write neighbours as one where that is the same.

    Batch norms and other constants go into the convolution or dense layer before them, or else
    after them; what acts on the image itself stays.
    """
    kept = _needed(list(nodes), last)
    while True:
        found = _first_simpler(kept)
        if found is None:
            return Network(tuple(kept))
        kept = found


def _first_simpler(nodes: list[Node]) -> list[Node] | None:
    users = Counter(i for node in nodes for i in node.inputs)
    for position, node in enumerate(nodes[1:], start=1):
        found = _simpler(nodes, node, users)
        if isinstance(found, int):
            if position == len(nodes) - 1:
                return _needed(nodes, found)
            moved = [
                replace(each, inputs=tuple(found if i == position else i for i in each.inputs))
                for each in nodes
            ]
            return _needed(moved, len(nodes) - 1)
        if found is not None:
            return _needed([*nodes[:position], found, *nodes[position + 1 :]], len(nodes) - 1)
    return None


def _needed(nodes: list[Node], last: int) -> list[Node]:
    wanted = {0, last}
    for position in range(last, -1, -1):
        if position in wanted:
            wanted.update(nodes[position].inputs)
    places = {old: new for new, old in enumerate(sorted(wanted))}
    return [
        replace(nodes[old], inputs=tuple(places[i] for i in nodes[old].inputs)) for old in places
    ]


def _simpler(nodes: list[Node], node: Node, users: Counter[int]) -> Simpler:
    before = nodes[node.inputs[0]]
    if _does_nothing(node, before):
        return node.inputs[0]
    if node.kind == "sum":
        return _flat_sum(nodes, node, users)
    rule = _AFTER_ANY.get((before.kind, node.kind))
    # Two users of one product would have it computed twice.
    if users[node.inputs[0]] == 1 and not (before.kind == "scale" and before.inputs == (0,)):
        rule = rule or _AFTER_ONE.get((before.kind, node.kind))
    return rule(node, before) if rule else None


def _does_nothing(node: Node, before: Node) -> bool:
    if node.kind == "scale":
        factor, shift = node.arrays["factor"], node.arrays["shift"]
        return bool((factor == 1).all() and (shift == 0).all())
    if node.kind == "permute":
        return node.settings["axes"] == tuple(range(len(node.shape)))
    return node.kind == "reshape" and node.shape == before.shape


def _flat_sum(nodes: list[Node], node: Node, users: Counter[int]) -> Simpler:
    parts: list[int] = []
    for i in node.inputs:
        inner = nodes[i].kind == "sum" and users[i] == 1
        parts += nodes[i].inputs if inner else [i]
    if len(parts) == len(node.inputs) or len(set(parts)) < len(parts):
        return None
    return replace(node, inputs=tuple(parts))


def _reshape_once(node: Node, before: Node) -> Node:
    return replace(node, inputs=before.inputs)


def _permute_once(node: Node, before: Node) -> Node:
    axes = tuple(before.settings["axes"][i] for i in node.settings["axes"])
    return replace(node, inputs=before.inputs, settings={"axes": axes})


def _take_once(node: Node, before: Node) -> Node | None:
    if node.settings != before.settings:
        return None
    index = before.arrays["index"][node.arrays["index"]]
    return replace(node, inputs=before.inputs, arrays={"index": index})


def _scale_once(node: Node, before: Node) -> Node:
    factor, shift = node.arrays["factor"], node.arrays["shift"]
    arrays = {
        "factor": np.asarray(factor * before.arrays["factor"]),
        "shift": np.asarray(factor * before.arrays["shift"] + shift),
    }
    return replace(node, inputs=before.inputs, arrays=arrays)


_AFTER_ANY: dict[tuple[str, str], _Rule] = {
    ("reshape", "reshape"): _reshape_once,
    ("permute", "permute"): _permute_once,
    ("take", "take"): _take_once,
    ("scale", "scale"): _scale_once,
}
_AFTER_ONE: dict[tuple[str, str], _Rule] = {
    ("conv", "scale"): scale_after,
    ("conv_transpose", "scale"): scale_after,
    ("dense", "scale"): scale_after,
    ("scale", "conv"): scale_before,
    ("scale", "conv_transpose"): scale_before,
    ("scale", "dense"): scale_before,
    ("pad", "conv"): zeros_before,
}
