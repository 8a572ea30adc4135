"""Losses that stop being numbers, and the weights that are kept to go on from."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.networks.unet import unet
from robustbench_med.training.divergence import DivergedError
from robustbench_med.training.loop import train
from robustbench_med.training.seeding import order_of
from robustbench_med.training.settings import TrainSettings
from robustbench_med.training.weights import read_weights

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))


def lost(*names, from_call=1, where=math.nan):
    """A loss that is no number for some cases, from its n-th call on."""
    calls = []

    def loss(model, batch):
        calls.append(batch)
        wrong = torch.tensor([name in names for name in batch.case_ids])
        own = model.task.loss(model(batch.image), batch.target)
        return torch.where(wrong, where, own) if len(calls) >= from_call else own

    return loss


def places(cohort, epoch, size):
    """Step at which each case is learned from."""
    order = order_of(0, epoch, len(cohort))
    return {cohort.cases[index].case_id: n // size + 1 for n, index in enumerate(order)}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_step_and_the_case_are_told(tmp_path, value):
    cohort = MADE.classes_cohort(8)
    step = places(cohort, 1, 2)["c5"]
    settings = TrainSettings(epochs=2, batch_size=2, loss=lost("c5", where=value))
    told = rf"diverged at epoch 1, step {step}: loss is {value} for case 'c5'; lower learning_rate"
    with pytest.raises(DivergedError, match=told) as refused:
        train(MADE.small_lenet(), cohort, settings, folder=tmp_path / "c")
    assert len(str(refused.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing was finished, so nothing is kept


def test_of_many_cases_the_first_are_told_and_the_rest_counted(tmp_path):
    cohort = MADE.classes_cohort(8)
    settings = TrainSettings(epochs=1, batch_size=8, loss=lost(*(f"c{i}" for i in range(8))))
    with pytest.raises(DivergedError, match=r"for cases 'c\d', 'c\d', 'c\d' and 5 more"):
        train(MADE.small_lenet(), cohort, settings, folder=tmp_path)


def test_the_weights_before_are_kept_and_can_be_started_from_with_a_lower_rate(tmp_path):
    cohort, folder = MADE.classes_cohort(8), tmp_path / "net.checkpoint"
    network, same = MADE.small_lenet(), MADE.small_lenet()
    settings = TrainSettings(epochs=4, batch_size=4, loss=lost("c0", from_call=5))
    with pytest.raises(DivergedError, match="epoch 3, step") as refused:
        train(network, cohort, settings, folder=folder)
    aside = tmp_path / "net.last-good.safetensors"
    assert f"the weights after epoch 2 are kept in {aside}" in str(refused.value)
    assert f'delete {folder} and set start = "{aside}"' in str(refused.value)
    train(same, cohort, TrainSettings(epochs=2, batch_size=4), folder=tmp_path / "same")
    kept = read_weights(aside)
    for name, tensor in same.state_dict().items():
        assert torch.equal(kept[name], tensor)
    # As told: in the folder that is still there it is another training, elsewhere it goes on.
    lower = TrainSettings(epochs=1, batch_size=4, learning_rate=1e-4, start=str(aside))
    with pytest.raises(InputError, match=r"another training.*learning_rate was.*move epoch-0002"):
        train(MADE.small_lenet(), cohort, lower, folder=folder)
    on, fresh = MADE.small_lenet(), MADE.small_lenet()
    curve = train(on, cohort, lower, folder=tmp_path / "on")
    fresh.load_state_dict(kept)
    plain = TrainSettings(epochs=1, batch_size=4, learning_rate=1e-4)
    assert train(fresh, cohort, plain, folder=tmp_path / "f")[0]["loss"] == curve[0]["loss"]
    assert torch.equal(MADE.weights_of(on), MADE.weights_of(fresh))


def test_weights_that_the_last_step_ruined_are_never_kept(tmp_path):
    cohort, folder = MADE.classes_cohort(4), tmp_path / "net.checkpoint"
    calls = []

    def steep(model, batch):
        calls.append(batch)
        losses = model.task.loss(model(batch.image), batch.target)
        # 0 where it is, with a slope that is no number: what a root of 0 does.
        return losses + (0 * losses).sqrt() if len(calls) == 2 else losses

    settings = TrainSettings(epochs=3, batch_size=4, loss=steep)
    with pytest.raises(DivergedError, match="epoch 2, last step: a weight is no number"):
        train(MADE.small_lenet(), cohort, settings, folder=folder)
    for path in (folder / "epoch-0001.safetensors", tmp_path / "net.last-good.safetensors"):
        assert all(tensor.isfinite().all() for tensor in read_weights(path).values())


def test_a_learning_rate_out_of_all_proportion_diverges_and_says_so(tmp_path):
    settings = TrainSettings(epochs=50, optimiser="sgd", learning_rate=1e12)
    with pytest.raises(DivergedError, match=r"epoch \d+, (last )?step .*lower learning_rate \(1e"):
        train(
            MADE.built(unet, preset="small"), MADE.masks_cohort(), settings, folder=tmp_path / "c"
        )


def test_a_case_with_nan_is_named_instead_of_the_learning_rate(tmp_path):
    cohort = MADE.classes_cohort(3)
    cohort.cases[1].image[0, 0, 0] = math.nan
    with pytest.raises(InputError, match=r"case 'c1'.*finite"):
        train(MADE.small_lenet(), cohort, TrainSettings(epochs=1), folder=tmp_path)


def test_a_validation_loss_that_is_no_number_is_refused(tmp_path):
    held_out = MADE.classes_cohort(3, seed=9)
    held_out.cases[1].image[0, 0, 0] = math.nan
    with pytest.raises(InputError, match="validation loss is nan"):
        train(
            MADE.small_lenet(), MADE.classes_cohort(), TrainSettings(epochs=1),
            folder=tmp_path, validation=held_out,
        )  # fmt: skip
