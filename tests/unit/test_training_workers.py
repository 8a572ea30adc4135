"""Cases made in other processes: the same weights, whatever happens to those processes."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.components import build
from robustbench_med.errors import IncompleteError, InputError
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.workers import reading, suitable_workers

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))
LAZY = """
import os, signal, time
from collections.abc import Sequence
import torch
from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.errors import InputError

class Lazy(Sequence):
    def __init__(self, count, parent=0, wrong=-1, killed=-1, seconds=0.0):
        self.count, self.parent, self.wrong = count, parent, wrong
        self.killed, self.seconds = killed, seconds
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        away = os.getpid() != self.parent
        time.sleep(self.seconds)
        if away and index == self.wrong:
            raise InputError(f"case {index}: cannot be made")
        if away and index == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(index))
        context = {"made": torch.tensor([os.getpid(), torch.get_num_threads()])}
        return Case(f"c{index}", f"p{index}", image, torch.tensor(index % 2), context)

def lazy(*arguments, **more):
    cases = Lazy(*arguments, **more)
    return Cohort("lazy", Task("classification", ("a", "b")), (0, 1), cases)
"""


@pytest.fixture
def lazy(tmp_path, monkeypatch):
    (tmp_path / "lazy_cases.py").write_text(LAZY)
    monkeypatch.syspath_prepend(tmp_path)
    import lazy_cases

    yield lazy_cases.lazy
    sys.modules.pop("lazy_cases", None)


def no_worker_is_left():
    return not multiprocessing.active_children()


def trained(folder, cohort, held_out, network, workers):
    settings = TrainSettings(epochs=2, batch_size=4, workers=workers)
    curve = train(network, cohort, settings, folder=folder / str(workers), validation=held_out)
    return MADE.weights_of(network), [(r["loss"], r["validation_loss"]) for r in curve]


def test_weights_and_curve_do_not_depend_on_where_cases_are_made(tmp_path, lazy):
    cohort, held_out = lazy(10), lazy(3)
    (here, curve), (there, same) = (
        trained(tmp_path, cohort, held_out, MADE.built(MADE.Dropping), workers)
        for workers in (0, 1)
    )
    assert torch.equal(here, there)
    assert curve == same
    assert no_worker_is_left()


def test_a_finished_training_that_is_asked_for_again_starts_no_worker(tmp_path, lazy, monkeypatch):
    cohort, network, asked = lazy(10), MADE.built(MADE.Dropping), []
    first = train(network, cohort, TrainSettings(epochs=2), folder=tmp_path)

    def recorded(cohorts, workers):
        asked.append(workers)
        return reading(cohorts, workers)

    monkeypatch.setattr("robustbench_med.training.loop.reading", recorded)
    settings = TrainSettings(epochs=2, workers=2)
    again = train(MADE.built(MADE.Dropping), cohort, settings, folder=tmp_path)
    assert asked == [0]
    assert again == first


@pytest.mark.slow
def test_neither_do_they_on_simulated_hearts_by_three_workers(tmp_path):
    made = {"task": "segmentation", "size": 48, "pixel_mm": 3.0, "slices": 2, "frames": 2}
    cohort, held_out = (
        build("cohorts", "synthetic_cine", patients=patients, split=split, **made)
        for patients, split in ((3, "train"), (1, "validation"))
    )

    def network():
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Dropout(), torch.nn.Conv2d(4, 4, 1)
        )

    (here, curve), (there, same) = (
        trained(tmp_path, cohort, held_out, MADE.built(network), workers) for workers in (0, 3)
    )
    assert torch.equal(here, there)
    assert curve == same


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_each_case_has_its_worker_and_comes_in_order_whatever_was_asked_before(lazy):
    with reading([lazy(9), lazy(6)], 2) as reads:
        left_early = reads(0, range(9))
        assert [next(left_early).case_id for _ in range(3)] == ["c0", "c1", "c2"]
        left_early.close()
        made = {}
        for which, order in ((0, range(9)), (0, [8, 7, 6, 0, 1, 2, 3, 5, 4]), (1, range(6))):
            for index, case in zip(order, reads(which, order), strict=True):
                assert case.case_id == f"c{index}"
                made.setdefault(index, set()).add(tuple(case.context["made"].tolist()))
    assert all(len(places) == 1 for places in made.values())
    processes = {index: next(iter(places))[0] for index, places in made.items()}
    assert len({processes[index] for index in (0, 2, 4, 6, 8)}) == 1
    assert len(set(processes.values())) == 2
    assert os.getpid() not in processes.values()
    # With as many threads as here: sums are rounded alike.
    assert {next(iter(places))[1] for places in made.values()} == {3}


@pytest.mark.slow
def test_what_is_wrong_with_a_case_is_told_as_if_it_were_made_here(tmp_path, lazy):
    with pytest.raises(InputError) as refused:
        train(
            MADE.small_lenet(), lazy(8, os.getpid(), wrong=3),
            TrainSettings(epochs=1, workers=2), folder=tmp_path / "c",
        )  # fmt: skip
    assert str(refused.value) == "case 3: cannot be made"
    assert no_worker_is_left()


def test_a_killed_worker_ends_the_training_in_one_line_and_it_can_go_on(tmp_path, lazy):
    network, cohort = MADE.small_lenet(), lazy(8, os.getpid(), killed=3)
    settings = {"epochs": 2, "batch_size": 4}
    with pytest.raises(IncompleteError, match="ended from outside") as stopped:
        train(network, cohort, TrainSettings(**settings, workers=1), folder=tmp_path / "c")
    assert len(str(stopped.value).splitlines()) == 1
    assert no_worker_is_left()
    # Where the cases are made is not part of what is trained: the same folder goes on here.
    train(MADE.small_lenet(), cohort, TrainSettings(**settings), folder=tmp_path / "c")


def test_cases_that_cannot_be_sent_are_refused_in_one_line(tmp_path):
    plain = MADE.classes_cohort()

    class Local(list):
        pass

    cohort = Cohort(plain.name, plain.task, plain.bounds, Local(plain.cases))
    with pytest.raises(InputError, match="cannot be sent to other processes") as refused:
        train(MADE.small_lenet(), cohort, TrainSettings(workers=1), folder=tmp_path)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.slow
def test_an_interrupt_ends_the_workers(tmp_path, lazy):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            MADE.small_lenet(), lazy(40, seconds=0.01), TrainSettings(workers=2),
            folder=tmp_path / "c", on_step=interrupt,
        )  # fmt: skip
    assert no_worker_is_left()


@pytest.mark.slow
def test_training_does_not_wait_where_workers_make_cases_as_fast_as_it_learns(tmp_path, lazy):
    # 48 cases of 40 ms are 1.9 s an epoch here; four workers need 0.5 s. Learning takes no time.
    seconds = {}
    for workers in (0, 4):
        settings = TrainSettings(epochs=3, batch_size=16, workers=workers)
        folder = tmp_path / str(workers)
        curve = train(MADE.small_lenet(), lazy(48, seconds=0.04), settings, folder=folder)
        seconds[workers] = curve[-1]["seconds"]
    assert seconds[0] > 1.9
    assert seconds[4] < 0.6 * seconds[0]


ALONE = """
import sys, torch
from lazy_cases import lazy
from robustbench_med.training.workers import reading
if __name__ == "__main__":
    with reading([lazy(1000, seconds=0.05)], 2) as reads:
        for case in reads(0, range(1000)):
            print(case.context["made"][0].item(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_trains_however_it_ends(tmp_path, lazy, how):
    (tmp_path / "alone.py").write_text(ALONE)
    trains = subprocess.Popen(
        [sys.executable, "alone.py"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    workers = {int(trains.stdout.readline()) for _ in range(4)}
    assert len(workers) == 2
    # As a terminal does: Ctrl-C goes to all of them, a kill to one.
    (os.killpg if how == signal.SIGINT else os.kill)(trains.pid, how)
    told = trains.communicate(timeout=30)[1]
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert told.count("Traceback") <= 1, told  # of the script itself; workers tell nothing


def test_workers_are_suggested_only_where_making_the_cases_takes_seconds(lazy):
    cores = len(os.sched_getaffinity(0))
    assert suitable_workers(MADE.classes_cohort()) == 0
    assert suitable_workers(lazy(20)) == 0
    assert suitable_workers(lazy(5000, seconds=0.01)) == min(4, cores - 1)
    stuck = lazy(5000, seconds=0.01)
    stuck.cases.key = lambda case: case  # cannot be sent to another process
    assert suitable_workers(stuck) == 0
    empty = Cohort("none", Task("classification", ("a", "b")), (0, 1), ())
    assert suitable_workers(empty) == 0
    one = Case("c", "p", torch.zeros(1, 2), torch.tensor(0))
    assert suitable_workers(Cohort("one", empty.task, (0, 1), (one,))) == 0
