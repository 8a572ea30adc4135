import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_med.cases import Batch, Case, Cohort, Task
from robustbench_med.errors import InputError, UnknownNameError
from robustbench_med.model import TorchModel
from robustbench_med.networks.unet import unet
from robustbench_med.streams import CaseRng
from robustbench_med.training.adversarial import Adversarial
from robustbench_med.training.augment import flip
from robustbench_med.training.dice_ce import dice_ce
from robustbench_med.training.loop import train
from robustbench_med.training.objective import balanced_weights
from robustbench_med.training.settings import TrainSettings

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("training_fixture.py"))))
Dropping, StopAfterError = MADE.Dropping, MADE.StopAfterError
built, classes_cohort, masks_cohort = MADE.built, MADE.classes_cohort, MADE.masks_cohort
small_lenet, stop_after, weights_of = MADE.small_lenet, MADE.stop_after, MADE.weights_of


def test_eight_images_are_learned_by_heart(tmp_path):
    cohort, network = classes_cohort(), small_lenet()
    curve = train(
        network, cohort, TrainSettings(epochs=80, batch_size=8, learning_rate=0.01), folder=tmp_path
    )
    batch = next(cohort.batches(8))
    assert (network(batch.image).argmax(dim=1) == batch.target).all()
    assert curve[-1]["loss"] < 0.05 < curve[0]["loss"]
    assert not network.training


def test_a_unet_learns_a_threshold_with_dice_and_cross_entropy(tmp_path):
    cohort, network = masks_cohort(), built(unet, preset="small")
    settings = TrainSettings(epochs=40, batch_size=4, learning_rate=0.005, loss="dice_ce")
    train(network, cohort, settings, folder=tmp_path)
    batch = next(cohort.batches(4))
    assert (network(batch.image).argmax(dim=1) == batch.target).float().mean() > 0.95


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_two_epochs_a_stop_and_two_more_equal_four_to_the_bit(tmp_path, optimiser):
    cohort = classes_cohort(10)
    settings = TrainSettings(
        epochs=4, batch_size=4, optimiser=optimiser, augment="flip", weight_decay=0.01
    )
    straight, stopped, continued = (built(Dropping) for _ in range(3))
    curve = train(straight, cohort, settings, folder=tmp_path / "straight")
    with pytest.raises(StopAfterError):
        train(stopped, cohort, settings, folder=tmp_path / "s", on_epoch=stop_after(2))
    again = train(continued, cohort, settings, folder=tmp_path / "s")
    assert torch.equal(weights_of(straight), weights_of(continued))
    assert not torch.equal(weights_of(straight), weights_of(stopped))
    assert [row["loss"] for row in again] == [row["loss"] for row in curve]
    assert [row["epoch"] for row in again] == [1, 2, 3, 4]


def test_a_keyboard_interrupt_within_an_epoch_leaves_a_checkpoint_that_continues(tmp_path):
    cohort, settings = classes_cohort(10), TrainSettings(epochs=3, batch_size=4)
    straight, continued = small_lenet(), small_lenet()
    train(straight, cohort, settings, folder=tmp_path / "straight")

    class Interrupting(list):
        reads = 0

        def __getitem__(self, index):
            Interrupting.reads += 1
            if Interrupting.reads == 27:  # the 10 of the digest, one epoch, and some
                raise KeyboardInterrupt
            return super().__getitem__(index)

    interrupting = Cohort(cohort.name, cohort.task, cohort.bounds, Interrupting(cohort.cases))
    with pytest.raises(KeyboardInterrupt):
        train(small_lenet(), interrupting, settings, folder=tmp_path / "s")
    assert [path.name for path in (tmp_path / "s").glob("epoch-*")] == ["epoch-0001.safetensors"]
    train(continued, cohort, settings, folder=tmp_path / "s")
    assert torch.equal(weights_of(straight), weights_of(continued))


def test_weights_written_by_an_epoch_that_was_killed_before_its_state_are_passed_over(tmp_path):
    cohort = classes_cohort()
    straight, continued = small_lenet(), small_lenet()
    train(straight, cohort, TrainSettings(epochs=2), folder=tmp_path / "straight")
    train(small_lenet(), cohort, TrainSettings(epochs=1), folder=tmp_path / "s")
    (tmp_path / "s" / "epoch-0002.safetensors").write_bytes(b"half")
    (tmp_path / "s" / "epoch-0003.safetensors").write_bytes(b"half")
    train(continued, cohort, TrainSettings(epochs=2), folder=tmp_path / "s")
    assert torch.equal(weights_of(straight), weights_of(continued))
    assert len(list((tmp_path / "s").iterdir())) == 2


def test_a_finished_training_is_read_not_repeated_and_goes_on_with_more_epochs(tmp_path):
    cohort = classes_cohort()
    done, read, more, straight = (small_lenet() for _ in range(4))
    curve = train(done, cohort, TrainSettings(epochs=2), folder=tmp_path / "a")
    assert train(read, cohort, TrainSettings(epochs=2), folder=tmp_path / "a") == curve
    assert torch.equal(weights_of(done), weights_of(read))
    train(more, cohort, TrainSettings(epochs=3), folder=tmp_path / "a")
    train(straight, cohort, TrainSettings(epochs=3), folder=tmp_path / "b")
    assert torch.equal(weights_of(more), weights_of(straight))


def test_the_seed_decides_the_weights_and_the_global_state_does_not(tmp_path):
    cohort = classes_cohort(10)
    found = []
    for index, (seed, noise) in enumerate([(0, 1), (0, 2), (1, 1)]):
        network = built(Dropping)
        with torch.random.fork_rng():
            torch.manual_seed(noise)
            before = torch.get_rng_state()
            settings = TrainSettings(epochs=2, batch_size=4, seed=seed)
            train(network, cohort, settings, folder=tmp_path / str(index))
            assert torch.equal(torch.get_rng_state(), before)
        found.append(weights_of(network))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_last_smaller_batch_is_learned_from_and_the_order_changes(tmp_path):
    seen = []

    def watch(model, batch, rng):
        seen.append(batch.case_ids)
        return batch

    settings = TrainSettings(epochs=2, batch_size=4, defence=watch)
    train(small_lenet(), classes_cohort(10), settings, folder=tmp_path)
    assert [len(ids) for ids in seen] == [4, 4, 2, 4, 4, 2]
    first, second = (sum(seen[i : i + 3], ()) for i in (0, 3))
    assert sorted(first) == sorted(second) == sorted(f"c{i}" for i in range(10))
    assert first != second


def test_cases_of_two_sizes_are_learned_from_together(tmp_path):
    small, large = masks_cohort(3, 8), masks_cohort(2, 16)
    renamed = [Case(f"l{c.case_id}", c.patient_id, c.image, c.target) for c in large.cases]
    mixed = Cohort("mixed", small.task, small.bounds, [*small.cases, *renamed])
    curve = train(
        built(unet, preset="small"), mixed, TrainSettings(epochs=1, batch_size=4), folder=tmp_path
    )
    assert math.isfinite(curve[0]["loss"])


def test_one_step_of_sgd_is_the_gradient_of_the_mean_loss(tmp_path):
    cohort = classes_cohort(5)
    network, reference = small_lenet(), small_lenet()
    settings = TrainSettings(epochs=1, batch_size=5, optimiser="sgd", learning_rate=0.1)
    curve = train(network, cohort, settings, folder=tmp_path)
    batch = next(cohort.batches(5))
    loss = nn.CrossEntropyLoss()(reference(batch.image), batch.target)
    loss.backward()
    for trained, own in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(trained, own - 0.1 * 1.9 * own.grad)  # Nesterov: 1 + 0.9
    assert curve[0]["loss"] == pytest.approx(loss.item())


def test_validation_is_scored_in_evaluation_mode_and_never_learned_from(tmp_path):
    cohort, held_out = classes_cohort(), classes_cohort(5, seed=9, name="held out")
    with_it, without = built(Dropping), built(Dropping)
    settings = TrainSettings(epochs=2, batch_size=2)
    curve = train(with_it, cohort, settings, folder=tmp_path / "a", validation=held_out)
    train(without, cohort, settings, folder=tmp_path / "b")
    assert torch.equal(weights_of(with_it), weights_of(without))
    batch = next(held_out.batches(5))
    expected = nn.CrossEntropyLoss()(with_it(batch.image), batch.target).item()
    assert curve[-1]["validation_loss"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "cohort", "network", "message"),
    [
        ({"learning_rate": 0.01}, {}, 0, "learning_rate was 0.001, is now 0.01"),
        ({"defence": {"use": "adversarial", "eps": 0.1}}, {}, 0, "defence was None"),
        ({}, {"seed": 5}, 0, "cohort was "),
        ({}, {}, 1, "initial network was "),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, settings, cohort, network, message):
    train(built(Dropping), classes_cohort(), TrainSettings(epochs=1), folder=tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        train(
            built(Dropping, seed=network),
            classes_cohort(**cohort),
            TrainSettings(epochs=2, **settings),
            folder=tmp_path,
        )
    assert "delete the folder" in str(caught.value)


def test_a_checkpoint_beyond_the_epochs_asked_for_is_refused(tmp_path):
    train(built(Dropping), classes_cohort(), TrainSettings(epochs=2), folder=tmp_path)
    with pytest.raises(InputError, match="at epoch 2, beyond epochs = 1"):
        train(built(Dropping), classes_cohort(), TrainSettings(epochs=1), folder=tmp_path)


class Hostile:
    def __reduce__(self):
        return (print, ("this must never run",))


def damage_state(folder):
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:100])


def hostile_state(folder):
    torch.save({"weights": Hostile()}, folder / "state.pt")


def remove_weights(folder):
    next(folder.glob("epoch-*")).unlink()


@pytest.mark.parametrize("harm", [damage_state, hostile_state, remove_weights])
def test_a_damaged_checkpoint_is_refused_and_runs_no_code(tmp_path, capsys, harm):
    train(built(Dropping), classes_cohort(), TrainSettings(epochs=1), folder=tmp_path)
    harm(tmp_path)
    with pytest.raises(InputError, match="cannot be read; delete the folder"):
        train(built(Dropping), classes_cohort(), TrainSettings(epochs=2), folder=tmp_path)
    assert "must never run" not in capsys.readouterr().out


def test_an_empty_cohort_is_refused(tmp_path):
    empty = Cohort("none", Task("classification", ("a", "b")), (0, 1), [])
    with pytest.raises(InputError, match="at least 1 case, got 0"):
        train(small_lenet(), empty, TrainSettings(), folder=tmp_path)


def test_all_wrong_settings_are_told_at_once():
    with pytest.raises(InputError) as caught:
        TrainSettings(
            epochs=0, batch_size=2.5, learning_rate=math.nan, weight_decay=-1, optimiser="lion",
            loss="hinge", class_weights="some", augment="mixup", seed=True,
        )  # fmt: skip
    assert len(str(caught.value).splitlines()) == 9


def test_a_plans_table_makes_settings_and_builds_the_defence():
    table = {"epochs": 3, "defence": {"use": "adversarial", "steps": 7, "eps": 0.01}}
    settings = TrainSettings(**table)
    assert settings.defence == Adversarial(eps=0.01, norm="linf", steps=7)
    assert settings.described()["defence"]["eps"] == 0.01


@pytest.mark.parametrize(
    ("defence", "error", "message"),
    [
        ({"eps": 0.01}, InputError, "needs use = NAME"),
        ({"use": "adversarail", "eps": 0.01}, UnknownNameError, "did you mean 'adversarial'"),
        ({"use": "adversarial", "epsilon": 1}, InputError, "did you mean .eps."),
        ({"use": "adversarial", "eps": -1}, InputError, "eps must be"),
        ({"use": "adversarial", "eps": 1, "steps": 0}, InputError, "steps must be"),
        (3, InputError, "defence must be a table"),
    ],
)
def test_wrong_defences_are_refused(defence, error, message):
    with pytest.raises(error, match=message):
        TrainSettings(defence=defence)


def test_dice_ce_of_hand_counted_masks():
    target = torch.tensor([[[0, 0], [1, 1]]])
    certain = 50 * (nn.functional.one_hot(target, 2).movedim(-1, 1).float() - 0.5)
    assert dice_ce(certain, target).item() == pytest.approx(0, abs=1e-6)
    flat = dice_ce(torch.zeros(1, 2, 2, 2), target).item()
    # Each class: 2 voxels true, 4 halves predicted, 1 voxel of overlap.
    assert flat == pytest.approx(math.log(2) + 1 - (2 * 1 + 1) / (2 + 2 + 1))
    lone = dice_ce(certain[:, :, :1], target[:, :1]).item()  # class 1 absent and not predicted
    assert lone == pytest.approx(0, abs=1e-6)


def test_dice_ce_keeps_cases_apart_in_any_dimension():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, 3, 5, generator=draw)
    target = torch.randint(4, (3, 2, 3, 5), generator=draw)
    together = dice_ce(logits, target)
    alone = torch.cat([dice_ce(logits[i : i + 1], target[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_balanced_classes_weigh_the_same_in_total_and_cases_one_on_average():
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])
    cases = [Case(f"c{i}", "p", torch.zeros(1, 2), label) for i, label in enumerate(labels)]
    cohort = Cohort("skewed", Task("classification", ("a", "b", "c")), (0, 1), cases)
    weights = balanced_weights(cohort)
    totals = torch.zeros(3).index_add(0, labels, weights[labels])
    torch.testing.assert_close(totals, torch.full((3,), 8 / 3))
    assert weights[labels].mean().item() == pytest.approx(1)


def test_balanced_training_lowers_the_weighted_loss(tmp_path):
    cohort = classes_cohort(5)
    network = small_lenet()
    settings = TrainSettings(epochs=1, batch_size=5, class_weights="balanced")
    batch = next(cohort.batches(5))
    weights = torch.tensor([5 / 6, 5 / 4])
    losses = nn.CrossEntropyLoss(reduction="none")(network(batch.image), batch.target)
    expected = (losses * weights[batch.target]).mean().item()
    assert train(network, cohort, settings, folder=tmp_path)[0]["loss"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "cohort"),
    [
        ({"loss": "dice_ce"}, classes_cohort()),
        ({"class_weights": "balanced"}, masks_cohort()),
        (
            {"augment": "flip"},
            Cohort(
                "values",
                Task("regression", ("age",)),
                (0, 1),
                [Case("c", "p", torch.rand(1, 16, 16), torch.rand(1))],
            ),
        ),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(tmp_path, settings, cohort):
    with pytest.raises(InputError, match=cohort.task.kind):
        train(small_lenet(), cohort, TrainSettings(**settings), folder=tmp_path)


def test_flip_mirrors_image_and_mask_together_for_about_half_of_the_cases():
    image = torch.rand(400, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(tuple(f"c{i}" for i in range(400)), image, (image[:, 0] > 0.5).long())
    flipped = flip(batch, CaseRng(0, "flip", batch.case_ids))
    assert torch.equal(flipped.target, (flipped.image[:, 0] > 0.5).long())
    moved = (flipped.image != image).flatten(start_dim=1).any(dim=1)
    assert torch.equal(flipped.image[moved], image[moved].flip(-1))
    assert 0.4 < moved.float().mean().item() < 0.6


def test_flip_leaves_class_targets_alone():
    batch = next(classes_cohort(8).batches(8))
    assert torch.equal(flip(batch, CaseRng(0, "flip", batch.case_ids)).target, batch.target)


def test_adversarial_batches_lie_in_the_ball_and_are_harder():
    cohort = classes_cohort()
    model = TorchModel(small_lenet(), cohort.task, cohort.bounds)
    batch = next(cohort.batches(8))
    rng = CaseRng(0, "defence", batch.case_ids)
    harder = Adversarial(eps=0.1)(model, batch, rng)
    assert (harder.image - batch.image).abs().max() <= 0.1 + 1e-6
    assert harder.image.min() >= 0
    assert harder.image.max() <= 1
    assert harder.case_ids == batch.case_ids
    loss, before = (
        model.task.loss(model(b.image), b.target).mean().item() for b in (harder, batch)
    )
    assert loss > before


def test_defence_sees_the_model_in_evaluation_mode_and_learning_does_not(tmp_path):
    modes = []

    class Watched(Dropping):
        def forward(self, image):
            modes.append(self.training)
            return super().forward(image)

    settings = TrainSettings(epochs=1, batch_size=8, defence=Adversarial(eps=0.1, steps=2))
    train(built(Watched), classes_cohort(8), settings, folder=tmp_path)
    assert modes == [False, False, False, True]


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(101, 2))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image):
        return self.layers(image - 0.5)


def test_adversarial_training_drops_the_weak_features_that_an_attack_turns(tmp_path):
    # One voxel tells the class by 0.15, a hundred others by 0.03 each. Logistic regression
    # leans on the hundred: 100 * 0.03 > 0.15. With eps = 0.05 they tell the opposite.
    signs = [1.0 if i % 2 else -1.0 for i in range(8)]
    told = torch.tensor([0.15] + [0.03] * 100)
    cases = [
        Case(f"c{i}", f"p{i}", 0.5 + sign * told[None], torch.tensor(i % 2))
        for i, sign in enumerate(signs)
    ]
    cohort = Cohort("told twice", Task("classification", ("a", "b")), (0, 1), cases)
    right = {}
    for name, defence in (("plain", None), ("adversarial", Adversarial(eps=0.05))):
        network = Linear()
        settings = TrainSettings(
            epochs=40, batch_size=8, optimiser="sgd", learning_rate=1.0, defence=defence
        )
        train(network, cohort, settings, folder=tmp_path / name)
        slope = network.layers[1].weight[1] - network.layers[1].weight[0]
        clean, robust = slope @ told, slope @ told - 0.05 * slope.abs().sum()  # closed form
        assert clean > 0
        right[name] = robust.item() > 0
    assert right == {"plain": False, "adversarial": True}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_mixed_precision_training_learns_on_cuda_and_continues(tmp_path):
    cohort, network = masks_cohort(), built(unet, preset="small")
    settings = TrainSettings(epochs=40, batch_size=4, learning_rate=0.005)
    with pytest.raises(StopAfterError):
        train(
            built(unet, preset="small"),
            cohort,
            settings,
            folder=tmp_path,
            device="cuda",
            on_epoch=stop_after(5),
        )
    curve = train(network, cohort, settings, folder=tmp_path, device="cuda")
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
