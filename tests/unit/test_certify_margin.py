"""Margin rows say what a loop over classes and pixels says."""

import pytest
import torch

from robustbench_med.certify.margin import (
    DenseRows,
    and_negated,
    class_margins,
    identity_rows,
    margin_rows,
    sign_margins,
)

STREAM = torch.Generator().manual_seed(0)


def test_margins_of_a_segmentation_are_true_minus_other_at_every_pixel():
    output = torch.randn(4, 3, 2, generator=STREAM)
    target = torch.randint(4, (3, 2), generator=STREAM)
    rows = class_margins(output, target)
    expected = [
        output[target[y, x], y, x] - output[other, y, x]
        for y in range(3)
        for x in range(2)
        for other in range(4)
        if other != target[y, x]
    ]
    assert len(rows) == 3 * 6
    assert torch.allclose(rows.of(output.flatten()[None])[0], torch.stack(expected))


def test_margin_rows_of_a_batch_give_true_minus_other_logits():
    logits, target = torch.randn(3, 4, generator=STREAM), torch.tensor([2, 0, 3])
    margins = (margin_rows(target, 4) @ logits[:, :, None])[:, :, 0]
    for case, true in enumerate(target.tolist()):
        others = [k for k in range(4) if k != true]
        assert torch.allclose(margins[case], logits[case, true] - logits[case, others])


def test_sign_margins_are_positive_where_the_flag_is_right():
    output = torch.tensor([2.0, -1.0, 3.0, -4.0])
    rows = sign_margins(output, torch.tensor([1, 1, 0, 0]))
    assert rows.of(output[None])[0].tolist() == [2.0, -1.0, -3.0, 4.0]


@pytest.mark.parametrize("part", [slice(0, 3), slice(2, 7), slice(17, 18), slice(None)])
def test_dense_chunks_act_as_the_sparse_rows_do(part):
    output = torch.randn(4, 3, 2, generator=STREAM)
    rows = class_margins(output, torch.randint(4, (3, 2), generator=STREAM))
    flat = output.flatten()
    assert torch.allclose(rows.dense(part) @ flat, rows.of(flat[None])[0, part])


def test_picked_rows_are_the_chosen_ones():
    rows = identity_rows(5, torch.empty(0))
    chosen = torch.tensor([True, False, False, True, True])
    assert torch.equal(rows.pick(chosen).dense(slice(None)), torch.eye(5)[chosen])


def test_rows_and_their_negatives_stand_one_after_the_other():
    matrix = torch.randn(3, 5, generator=STREAM)
    assert torch.equal(
        and_negated(DenseRows(matrix)).dense(slice(None)), torch.cat([matrix, -matrix])
    )
    sparse = and_negated(identity_rows(4, matrix))
    assert torch.equal(sparse.dense(slice(None)), torch.cat([torch.eye(4), -torch.eye(4)]))
