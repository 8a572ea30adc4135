"""The engine: one value per case whatever the batch, failures recorded, cells continued."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med.cases import summarise
from robustbench_med.engine.cells import SHARD, Inquiry, cells, pick, probe_digest
from robustbench_med.engine.evaluate import Failure, measure
from robustbench_med.engine.local import Effort, Progress, compute
from robustbench_med.engine.sources import code_digest
from robustbench_med.engine.store import is_stored, merge, prune
from robustbench_med.errors import CaseError, InputError, IntegrityError, UnsupportedError

TASK = rb.Task("classification", ("dark", "bright"))


@dataclass(frozen=True)
class Hit:
    better: ClassVar[str] = "higher"

    def __call__(self, output, target):
        return (output.argmax(dim=1) == target).float()


@dataclass(frozen=True)
class Jitter:
    """Moves each image by its own stream, so that values show which stream was used."""

    scale: float = 0.1

    def __call__(self, model, batch, ball, rng):
        return batch.image + self.scale * rng.uniform_like(batch.image)


@dataclass(frozen=True)
class Margin:
    better: ClassVar[str] = "higher"

    def __call__(self, output, target):
        return output.gather(1, target[:, None])[:, 0]


@dataclass(frozen=True)
class Fragile:
    """Fails on the images whose first voxel is exactly `at`."""

    at: float
    error: type = ValueError

    def __call__(self, model, batch, ball, rng):
        if bool((batch.image.flatten(1)[:, 0] == self.at).any()):
            raise self.error("this image breaks it")
        return batch.image


def linear(seed=0, classes=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    return rb.TorchModel(network, TASK, (0, 1))


def cohort(count=10, shapes=((1, 4, 4),)):
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(shapes[i % len(shapes)], generator=generator) for i in range(count)]
    cases = [rb.Case(f"c{i}", f"p{i // 2}", image, i % 2) for i, image in enumerate(images)]
    return rb.Cohort("toy", TASK, (0, 1), cases)


BALL = rb.Ball("linf", 0.1, (0, 1))


def table(records):
    return {(r.case_id, r.probe, r.metric): r.value for r in records}


def test_a_value_does_not_depend_on_batch_size_or_order():
    probes = [rb.attacked("jitter", Jitter(), BALL, {"margin": Margin()})]
    whole = cohort(10)
    backwards = rb.Cohort("toy", TASK, (0, 1), whole.cases[::-1])
    once = table(rb.evaluate(linear(), whole, probes, batch_size=10, seed=3))
    for other, size in ((whole, 1), (whole, 3), (backwards, 4)):
        again = table(rb.evaluate(linear(), other, probes, batch_size=size, seed=3))
        assert again == pytest.approx(once, abs=1e-5)


def test_another_seed_draws_other_numbers():
    probes = [rb.attacked("jitter", Jitter(), BALL, {"margin": Margin()})]
    one = table(rb.evaluate(linear(), cohort(), probes, seed=0))
    two = table(rb.evaluate(linear(), cohort(), probes, seed=1))
    assert one != two


def test_a_failing_case_is_recorded_and_the_others_go_on():
    whole = cohort(6)
    bad = float(whole.cases[3].image.flatten()[0])
    probes = [rb.attacked("fragile", Fragile(bad), BALL, {"hit": Hit()})]
    failures: list[Failure] = []
    records = list(rb.evaluate(linear(), whole, probes, on_failure=failures.append))
    assert [f.case_id for f in failures] == ["c3"]
    assert failures[0].error == "ValueError"
    assert failures[0].message == "this image breaks it"
    undefined = [r.case_id for r in records if r.value != r.value]
    assert undefined == ["c3"]
    assert len(records) == 6


def test_what_a_component_cannot_do_is_said_once_for_the_batch_without_retries():
    asked = []

    class Refuser:
        def __call__(self, model, batch, ball, rng):
            asked.append(len(batch))
            raise UnsupportedError("not this kind of model")

    failures: list[Failure] = []
    probes = [rb.attacked("refuser", Refuser(), BALL, {"hit": Hit()})]
    list(rb.evaluate(linear(), cohort(6), probes, on_failure=failures.append))
    assert asked == [6]
    assert {f.error for f in failures} == {"UnsupportedError"}
    assert len(failures) == 6


def test_a_model_that_is_not_finite_for_one_case_fails_that_case_only():
    class Hole(nn.Module):
        def forward(self, image):
            out = image.flatten(1)[:, :2]
            return torch.where(out[:, :1] > 0.9, torch.nan, out)

    model = rb.TorchModel(Hole(), TASK, (0, 1))
    whole = cohort(20)
    expected = [c.case_id for c in whole.cases if c.image.flatten()[0] > 0.9]
    assert 0 < len(expected) < 20
    failures: list[Failure] = []
    list(rb.evaluate(model, whole, [rb.clean({"hit": Hit()})], on_failure=failures.append))
    assert [f.case_id for f in failures] == expected
    assert {f.error for f in failures} == {"CaseError"}


@pytest.mark.parametrize(
    ("model", "whole", "said"),
    [
        (linear(), rb.Cohort("none", TASK, (0, 1), []), "at least 1 case, got 0"),
        (linear(classes=3), cohort(), r"output of shape \(1, 2\).* got \(1, 3\)"),
        (rb.TorchModel(nn.Flatten(), TASK, (-1, 1)), cohort(), "disagree on bounds"),
        (
            rb.TorchModel(nn.Flatten(), rb.Task("multilabel", ("a",)), (0, 1)),
            cohort(),
            "disagree on task",
        ),
        (linear(), cohort(shapes=((1, 5, 5),)), "cannot answer case 'c0' with image"),
    ],
)
def test_a_model_and_a_cohort_that_disagree_are_refused_before_anything_runs(model, whole, said):
    with pytest.raises(InputError, match=said):
        next(rb.evaluate(model, whole, [rb.clean({"hit": Hit()})]))


def test_a_model_that_answers_only_nan_is_refused():
    class Nothing(nn.Module):
        def forward(self, image):
            return torch.full((len(image), 2), torch.nan)

    with pytest.raises(InputError, match="only NaN or infinity"):
        next(rb.evaluate(rb.TorchModel(Nothing(), TASK, (0, 1)), cohort(), [rb.clean({})]))


def test_an_image_outside_the_bounds_and_a_class_that_is_not_there_are_named():
    cases = [*cohort(3).cases, rb.Case("bright", "p", torch.full((1, 4, 4), 1.5), 0)]
    with pytest.raises(InputError, match=r"case 'bright'.*within bounds \(0.0, 1.0\), got 1.5"):
        list(rb.evaluate(linear(), rb.Cohort("x", TASK, (0, 1), cases), [rb.clean({})]))
    cases = [*cohort(3).cases, rb.Case("odd", "p", torch.rand(1, 4, 4), 2)]
    with pytest.raises(InputError, match=r"case 'odd'.*classes 0 to 1, got 2"):
        list(rb.evaluate(linear(), rb.Cohort("x", TASK, (0, 1), cases), [rb.clean({})]))


def test_a_network_in_training_mode_is_refused():
    model = linear()
    model.network.train()
    with pytest.raises(InputError, match="training mode"):
        next(rb.evaluate(model, cohort(), [rb.clean({"hit": Hit()})]))


def test_two_probes_of_one_name_are_refused():
    with pytest.raises(InputError, match="clean"):
        next(rb.evaluate(linear(), cohort(), [rb.clean({}), rb.clean({})]))


def test_a_metric_of_the_wrong_shape_is_refused_by_name():
    class Wrong:
        better = "higher"

        def __call__(self, output, target):
            return output

    with pytest.raises(InputError, match="'wrong' must give one value per case"):
        list(rb.evaluate(linear(), cohort(), [rb.clean({"wrong": Wrong()})]))


def test_a_probe_leaves_the_global_random_state_as_it_was():
    class Noisy(nn.Module):
        def forward(self, image):
            return image.flatten(1)[:, :2] + 0.1 * torch.randn(len(image), 2)

    model = rb.TorchModel(Noisy(), TASK, (0, 1))
    batch = next(cohort().batches(4))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, _ = measure(model, batch, rb.clean({"margin": Margin()}), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    two, _ = measure(model, batch, rb.clean({"margin": Margin()}), seed=0)
    assert one == two


def inquiries(*probes, count=10):
    return [Inquiry(probe, range(count)) for probe in probes]


def digests(probes, *, model="m", seed=0, whole=None):
    summaries = [summarise(case) for case in (whole or cohort()).cases]
    return [c.digest for c in cells(inquiries(*probes), summaries, model=model, seed=seed)]


def test_a_changed_probe_changes_only_its_own_cells():
    clean = rb.clean({"hit": Hit()})
    one = rb.attacked("jitter", Jitter(0.1), BALL, {"hit": Hit()})
    two = rb.attacked("jitter", Jitter(0.2), BALL, {"hit": Hit()})
    first, second = digests([clean, one]), digests([clean, two])
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_a_cell_depends_on_model_seed_pixels_and_attributes_not_at_all():
    probes = [rb.clean({"hit": Hit()})]
    whole = cohort()
    base = digests(probes)
    assert digests(probes, model="other") != base
    assert digests(probes, seed=1) != base
    image = whole.cases[2].image.clone()
    image[0, 0, 0] += 1e-6
    changed = [*whole.cases]
    changed[2] = rb.Case("c2", "p1", image, 0)
    assert digests(probes, whole=rb.Cohort("toy", TASK, (0, 1), changed)) != base
    changed[2] = rb.Case("c2", "p1", whole.cases[2].image, 0, attributes={"sex": "F"})
    assert digests(probes, whole=rb.Cohort("toy", TASK, (0, 1), changed)) == base


def test_code_that_a_component_imports_counts_to_its_digest(tmp_path, monkeypatch):
    package = tmp_path / "their_lab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("K = 1\n")
    (package / "attack.py").write_text("from their_lab.helper import K\n")
    monkeypatch.syspath_prepend(tmp_path)
    from robustbench_med.engine import sources

    sources._closure.cache_clear()
    first = code_digest({"their_lab.attack"})
    (package / "helper.py").write_text("K = 2\n")
    sources._closure.cache_clear()
    assert code_digest({"their_lab.attack"}) != first


def test_a_probe_digest_is_stable_between_processes_of_the_same_code():
    probe = rb.attacked("jitter", Jitter(), BALL, {"hit": Hit()})
    assert probe_digest(probe) == probe_digest(
        rb.attacked("jitter", Jitter(), BALL, {"hit": Hit()})
    )


def test_cells_cover_every_case_once_in_shards():
    whole = cohort(2 * SHARD + 5)
    summaries = [summarise(case) for case in whole.cases]
    asked = [Inquiry(rb.clean({}), range(len(whole)))]
    made = list(cells(asked, summaries, model="m", seed=0))
    assert [len(cell.indices) for cell in made] == [SHARD, SHARD, 5]
    assert [i for cell in made for i in cell.indices] == list(range(len(whole)))


def test_picked_cases_depend_on_ids_alone_and_are_nested():
    summaries = [summarise(case) for case in cohort(30).cases]
    few, more = pick(summaries, 5, 0), pick(summaries, 12, 0)
    assert set(few) < set(more)
    assert pick(summaries, 99, 0) == tuple(range(30))
    ids = {summaries[::-1][i].case_id for i in pick(summaries[::-1], 5, 0)}
    assert ids == {summaries[i].case_id for i in few}


def start(tmp_path, probes, on_progress, count=70):
    whole = cohort(count, shapes=((1, 4, 4),))
    summaries = [summarise(case) for case in whole.cases]
    made = list(cells(inquiries(*probes, count=count), summaries, model="m", seed=0))
    compute(linear(), whole, made, tmp_path, Effort(0, 16), on_progress)
    return made


def test_a_run_killed_midway_continues_to_the_same_records(tmp_path):
    probes = [
        rb.clean({"margin": Margin()}),
        rb.attacked("jitter", Jitter(), BALL, {"margin": Margin()}),
    ]
    straight = start(tmp_path / "straight", probes, lambda p: None)

    class Killed(BaseException):
        pass

    def kill(progress: Progress):
        if progress.done > 100:
            raise Killed

    with pytest.raises(Killed):
        start(tmp_path / "broken", probes, kill)
    stored = list((tmp_path / "broken").glob("*.parquet"))
    assert 0 < len(stored) < len(straight)
    seen: list[Progress] = []
    made = start(tmp_path / "broken", probes, seen.append)
    assert seen[-1].done == seen[-1].total == 140
    assert seen[-1].fresh < 140
    one, _, _ = merge(tmp_path / "straight", straight)
    two, _, _ = merge(tmp_path / "broken", made)
    assert one.equals(two)


def test_failures_are_kept_with_their_cell(tmp_path):
    bad = float(cohort(70).cases[3].image.flatten()[0])
    probes = [rb.attacked("fragile", Fragile(bad, CaseError), BALL, {"hit": Hit()})]
    made = start(tmp_path, probes, lambda p: None)
    _, failures, seconds = merge(tmp_path, made)
    assert failures.column("case_id").to_pylist() == ["c3"]
    assert seconds[probes[0].name] > 0


def test_a_damaged_cell_is_an_integrity_error_that_names_it(tmp_path):
    made = start(tmp_path, [rb.clean({"hit": Hit()})], lambda p: None)
    path = next(tmp_path.glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError, match=path.name):
        merge(tmp_path, made)


def test_cells_that_no_plan_asks_for_are_pruned(tmp_path):
    made = start(tmp_path, [rb.clean({"hit": Hit()})], lambda p: None)
    (tmp_path / "old.parquet").write_bytes(b"")
    (tmp_path / ".x.parquet.7.partial").write_bytes(b"")
    prune(tmp_path, made)
    assert len(list(tmp_path.iterdir())) == len(made)
    assert all(is_stored(tmp_path, cell) for cell in made)
