"""Random streams: one per case, fixed by seed, name and id, and by nothing else."""

import pytest
import torch
from scipy import stats

from robustbench_med.streams import CaseRng


def test_a_case_draws_the_same_in_any_company_and_order():
    together = CaseRng(1, "pgd", ("a", "b", "c")).normal(4)
    turned = CaseRng(1, "pgd", ("c", "a")).normal(4)
    assert torch.equal(turned, together[[2, 0]])


def test_seed_name_and_case_each_change_the_draws():
    draws = [
        CaseRng(seed, name, (case,)).uniform(8)
        for seed, name, case in [(1, "p", "a"), (2, "p", "a"), (1, "q", "a"), (1, "p", "b")]
    ]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 4


def test_names_and_ids_cannot_be_shifted_into_one_another():
    assert not torch.equal(CaseRng(1, "ab", ("c",)).uniform(4), CaseRng(1, "a", ("bc",)).uniform(4))
    assert not torch.equal(CaseRng(1, "a", ("b",)).uniform(4), CaseRng(11, "", ("b",)).uniform(4))


def test_successive_draws_continue_the_stream_and_children_start_their_own():
    rng = CaseRng(3, "p", ("a",))
    first, second = rng.uniform(4), rng.uniform(4)
    assert not torch.equal(first, second)
    child = rng.child("start")
    assert torch.equal(child.uniform(4), CaseRng(3, "p/start", ("a",)).uniform(4))
    assert not torch.equal(CaseRng(3, "p", ("a",)).child("other").uniform(4), first)


def test_drawing_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    CaseRng(0, "p", ("a", "b")).normal(16)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("draw", "law"), [("uniform", stats.uniform(0, 1)), ("normal", stats.norm(0, 1))]
)
def test_draws_across_cases_follow_the_law_they_are_named_for(draw, law):
    ids = tuple(f"case-{i}" for i in range(2000))
    values = getattr(CaseRng(9, "law", ids), draw)(1).flatten().numpy()
    assert stats.kstest(values, law.cdf).pvalue > 0.01


def test_draws_like_an_image_take_its_shape_and_type():
    image = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    rng = CaseRng(0, "p", ("a", "b"))
    uniform, normal = rng.uniform_like(image), rng.normal_like(image)
    assert uniform.shape == normal.shape == image.shape
    assert uniform.dtype == normal.dtype == torch.float64
    assert -1 <= uniform.min() < -0.5
    assert 0.5 < uniform.max() < 1
