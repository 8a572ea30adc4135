"""A training that was stopped ends in the weights of one that was not, whatever is switched on."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robustbench_med.cases import Cohort
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))
ALL_ON = TrainSettings(
    epochs=6, batch_size=2, learning_rate=0.01, augment="flip", weight_decay=0.01, accumulate=2,
    clip=0.5, schedule="cosine", average=0.8, patience=2,
)  # fmt: skip


class Interrupting(list):
    """Cases that an interrupt meets when so many have been read."""

    left = 10**9

    def __getitem__(self, index):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def run(folder, network=None, cohort=None, settings=ALL_ON, **more):
    network = network or MADE.built(MADE.Dropping)
    held_out = MADE.classes_cohort(5, seed=9)
    curve = train(
        network, cohort or MADE.classes_cohort(11), settings, folder=folder, validation=held_out,
        **more,
    )  # fmt: skip
    return network, [{k: v for k, v in row.items() if k != "seconds"} for row in curve]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    network, curve = run(tmp_path_factory.mktemp("straight") / "c")
    return MADE.weights_of(network), curve


def test_it_stops_early_here_and_keeps_the_weights_of_an_earlier_epoch(straight):
    _, curve = straight
    assert 2 < len(curve) < ALL_ON.epochs
    assert curve[-1]["best_epoch"] == len(curve) - ALL_ON.patience


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_stopped_after_an_epoch_it_ends_in_the_same_bits(tmp_path, straight, epoch):
    with pytest.raises(MADE.StopAfterError):
        run(tmp_path, on_epoch=MADE.stop_after(epoch, MADE.StopAfterError))
    network, curve = run(tmp_path)
    assert torch.equal(MADE.weights_of(network), straight[0])
    assert curve == straight[1]


@pytest.mark.parametrize("read", [14, 25, 30, 41])
def test_stopped_within_an_epoch_it_ends_in_the_same_bits(tmp_path, straight, read):
    plain = MADE.classes_cohort(11)
    cases = Interrupting(plain.cases)
    cases.left = read  # the 11 of the digest, then 11 an epoch
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, cohort=Cohort(plain.name, plain.task, plain.bounds, cases))
    network, curve = run(tmp_path)
    assert torch.equal(MADE.weights_of(network), straight[0])
    assert curve == straight[1]


def test_stopped_after_every_epoch_it_ends_in_the_same_bits(tmp_path, straight):
    for epoch in range(1, len(straight[1])):
        with pytest.raises(MADE.StopAfterError):
            run(tmp_path, on_epoch=MADE.stop_after(epoch, MADE.StopAfterError))
    network, curve = run(tmp_path)
    assert torch.equal(MADE.weights_of(network), straight[0])
    assert curve == straight[1]


def test_files_of_the_latest_the_average_and_the_best_are_kept_and_no_others(tmp_path, straight):
    run(tmp_path)
    last, best = len(straight[1]), int(straight[1][-1]["best_epoch"])
    expected = {f"epoch-{last:04d}", f"average-{last:04d}", f"best-{best:04d}", "state"}
    assert {path.stem for path in tmp_path.iterdir()} == expected


def test_the_kept_weights_are_those_of_the_lowest_validation_loss(tmp_path, straight):
    _, curve = straight
    held_out = next(MADE.classes_cohort(5, seed=9).batches(5))
    network, _ = run(tmp_path)
    loss = torch.nn.functional.cross_entropy(network(held_out.image), held_out.target).item()
    assert loss == pytest.approx(min(row["validation_loss"] for row in curve), rel=1e-5)


def test_under_a_cosine_other_epochs_are_another_training(tmp_path):
    with pytest.raises(MADE.StopAfterError):
        run(tmp_path, on_epoch=MADE.stop_after(1, MADE.StopAfterError))
    longer = TrainSettings(**{**vars(ALL_ON), "epochs": 7})
    with pytest.raises(ValueError, match="epochs was 6, is now 7"):
        run(tmp_path, settings=longer)


def test_other_validation_cases_decide_otherwise_so_they_are_another_training(tmp_path):
    with pytest.raises(MADE.StopAfterError):
        run(tmp_path, on_epoch=MADE.stop_after(1, MADE.StopAfterError))
    with pytest.raises(ValueError, match="validation was"):
        train(
            MADE.built(MADE.Dropping), MADE.classes_cohort(11), ALL_ON, folder=tmp_path,
            validation=MADE.classes_cohort(6, seed=9),
        )  # fmt: skip


def test_patience_without_validation_cases_is_refused(tmp_path):
    with pytest.raises(ValueError, match="patience needs validation cases"):
        train(MADE.small_lenet(), MADE.classes_cohort(), ALL_ON, folder=tmp_path)
