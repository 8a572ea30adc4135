"""Rows that do not fit in memory are done in halves, and give what they give together."""

import numpy as np
import pytest

from robustbench_med.errors import UnsupportedError
from robustbench_med.proofs import derive as module
from robustbench_med.proofs.derive import derive
from robustbench_med.proofs.halves import in_halves
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.proof import InputSet


@pytest.mark.parametrize("most", [1, 2, 3, 7, 20])
def test_rows_keep_their_order_and_none_is_done_twice(most):
    done = []

    def work(some):
        if len(some) > most:
            raise MemoryError
        done.extend(some.tolist())
        return some * 2.0

    rows = np.arange(5, 25)
    assert np.array_equal(in_halves(work, rows), rows * 2.0)
    assert done == rows.tolist()


def test_a_row_that_does_not_fit_alone_is_unsupported():
    def work(_some):
        raise MemoryError

    with pytest.raises(UnsupportedError, match="not even one row of coefficients fits in memory"):
        in_halves(work, np.arange(4))


def test_limits_do_not_depend_on_what_memory_does_for(monkeypatch):
    drawn = np.random.default_rng(3)
    nodes = [Node("input", (), (6,))]
    for _ in range(3):
        weight = drawn.normal(size=(6, 6))
        nodes += [
            Node("dense", (len(nodes) - 1,), (6,), {"weight": weight, "bias": np.zeros(6)}),
            Node("relu", (len(nodes),), (6,)),
        ]
    network, inputs = Network(tuple(nodes)), InputSet(-np.ones(6), np.ones(6))
    whole, lowest, asked = derive(network, inputs), module.lowest, []

    def scarce(ground, rows, lines, enough=None):
        count = len(next(iter(rows.values())).rows)
        asked.append(count)
        if count > 1:
            raise MemoryError
        return lowest(ground, rows, lines, enough)

    monkeypatch.setattr(module, "lowest", scarce)
    halved = derive(network, inputs)
    assert max(asked) > 1
    for relu in network.relus:
        np.testing.assert_allclose(halved.lower[relu], whole.lower[relu], rtol=1e-12)
        np.testing.assert_allclose(halved.upper[relu], whole.upper[relu], rtol=1e-12)
