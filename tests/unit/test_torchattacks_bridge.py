"""The bridge: what it refuses, that it repeats, and that its results agree with ours."""

import inspect
import pickle

import pytest
import torch
from torch import nn

from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.torchattacks_bridge import Torchattacks, _attack_class
from robustbench_med.attacks.torchattacks_limits import NORMS, REFUSED
from robustbench_med.cases import Batch, Task
from robustbench_med.components import describe
from robustbench_med.errors import InputError, UnknownNameError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball, per_case_norm

BALLS = {
    "linf": Ball("linf", 0.05, (0.0, 1.0)),
    "l2": Ball("l2", 1.5, (0.0, 1.0)),
    "l1": Ball("l1", 6.0, (0.0, 1.0)),
}
SMALL = Ball("linf", 0.05, (0.0, 1.0))
QUICK = {"max_iterations": 20, "binary_search_steps": 4, "initial_const": 0.1}
FAST = {
    "Square": {"n_queries": 60},
    "SPSA": {"nb_sample": 16},
    "CW": {"steps": 20},
    "FAB": {"steps": 4},
    "EADL1": QUICK,
    "EADEN": QUICK,
}


def model_of(channels=3, classes=5, kind="classification"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes),
        )  # fmt: skip
    network[-1].weight.data *= 20
    return TorchModel(network, Task(kind, tuple("abcdefghij"[:classes])), (0.0, 1.0))


def batch_for(model, channels=3, cases=3, size=(12, 12)):
    """Cases that the model gets right."""
    stream = torch.Generator().manual_seed(1)
    image = torch.rand(cases, channels, *size, generator=stream)
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    return Batch(tuple(f"c{i}" for i in range(cases)), image, target)


def run(attack, model, batch, ball):
    return attack(model, batch, ball, CaseRng(2, "bridge", batch.case_ids))


def test_every_class_of_the_package_is_either_known_or_refused_with_a_reason():
    import torchattacks

    assert set(torchattacks.__all__) == set(NORMS) | set(REFUSED)
    assert not set(NORMS) & set(REFUSED)


@pytest.mark.parametrize(
    ("name", "norm"), [(n, norm) for n, norms in NORMS.items() for norm in norms]
)
def test_a_class_raises_the_loss_repeats_and_treats_cases_apart(name, norm):
    model = model_of()
    batch, ball = batch_for(model), BALLS[norm]
    if (name, norm) == ("Square", "l2"):
        batch, ball = batch_for(model, size=(25, 25)), Ball("l2", 8.0, (0.0, 1.0))
    attack = Torchattacks(name, FAST.get(name, {}))
    found = run(attack, model, batch, ball)
    assert torch.equal(run(attack, model, batch, ball), found)
    alone = torch.cat([run(attack, model, batch[i], ball) for i in range(len(batch))])
    torch.testing.assert_close(alone, found, atol=1e-5, rtol=0)
    inside = ball.project(found, batch.image)
    with torch.no_grad():
        clean, after = (model.task.loss(model(x), batch.target) for x in (batch.image, inside))
    assert after.mean() > clean.mean()
    assert all(parameter.grad is None for parameter in model.network.parameters())
    if "eps" in inspect.signature(_attack_class(name)).parameters:
        assert (per_case_norm(found - batch.image, norm) <= ball.eps * 1.0001).all()


def test_the_deterministic_classes_agree_in_one_batch_and_alone():
    model = model_of()
    batch = batch_for(model, cases=8)
    for name in ("FGSM", "BIM", "MIFGSM", "NIFGSM", "SINIFGSM", "PGD", "EOTPGD", "PGDL2"):
        settings = {"random_start": False} if "PGD" in name else {}
        attack, ball = Torchattacks(name, settings), BALLS[NORMS[name][0]]
        assert attack._batched
        alone = torch.cat([run(attack, model, batch[i], ball) for i in range(len(batch))])
        torch.testing.assert_close(alone, run(attack, model, batch, ball), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("ours", "theirs"), [
    (Pgd(steps=20), Torchattacks("PGD", {"steps": 20, "alpha": 0.1 * SMALL.eps})),
    (Pgd(steps=20, random_start=False),
     Torchattacks("PGD", {"steps": 20, "alpha": 0.1 * SMALL.eps, "random_start": False})),
], ids=["random start", "from the clean image"])  # fmt: skip
def test_our_pgd_and_theirs_break_as_many_cases_to_one(ours, theirs):
    model = model_of(channels=1, classes=3)
    batch, ball = batch_for(model, channels=1, cases=32), SMALL
    broken = []
    for attack in (ours, theirs):
        with torch.no_grad():
            answer = model(run(attack, model, batch, ball)).argmax(dim=1)
        broken.append(int((answer != batch.target).sum()))
    assert abs(broken[0] - broken[1]) <= 1
    assert 3 < broken[0] < 29


def test_carlini_wagner_works_where_logits_are_negative():
    """Unshifted, the package's CW stops at once here, as it takes 0 for the best other logit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        image = 0.1 + 0.8 * torch.rand(8, 1, 8, 8)
    network[1].bias.data -= 10
    model = TorchModel(network, Task("classification", ("a", "b")), (0.0, 1.0))
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    batch, ball = Batch(tuple("abcdefgh"), image, target), Ball("l2", 2.0, (0.0, 1.0))
    raw = _attack_class("CW")(network)(image, target)
    found = ball.project(run(Torchattacks("CW"), model, batch, ball), image)
    with torch.no_grad():
        assert (model(raw).argmax(dim=1) == target).all()
        assert (model(found).argmax(dim=1) != target).all()


def test_a_step_that_is_not_set_keeps_its_share_of_eps():
    model = model_of()
    batch = batch_for(model)
    settings = {"steps": 3, "random_start": False}
    implied = run(Torchattacks("PGD", settings), model, batch, BALLS["linf"])
    stated = run(Torchattacks("PGD", {**settings, "alpha": 0.05 / 4}), model, batch, BALLS["linf"])
    torch.testing.assert_close(implied, stated, atol=1e-6, rtol=0)


SEGMENTATION = TorchModel(nn.Conv2d(3, 2, 1), Task("segmentation", ("a", "b")), (0.0, 1.0))
WRONG = [
    ("PGD", Ball("linf", 0.1), {}, r"clips every image to \[0, 1\]"),
    ("PGD", Ball("linf", 0.1, (-2.0, 2.0)), {}, r"clips every image to \[0, 1\]"),
    ("PGD", Ball("l2", 0.1, (0, 1)), {}, "searches linf balls, got l2"),
    ("CW", Ball("linf", 0.1, (0, 1)), {}, "searches l2 balls, got linf"),
    ("PGD", Ball("linf", 0.1, (0, 1), "noise"), {}, "the unit 'noise'"),
    ("PGD", Ball("linf", 0.1, (0, 1), support="mask"), {}, "limited to 'mask'"),
    ("TIFGSM", BALLS["linf"], {"channels": 1}, "fixed at 3 channels, got 1"),
    ("PIFGSM", BALLS["linf"], {"channels": 1}, "fixed at 3 channels, got 1"),
    ("PIFGSMPP", BALLS["linf"], {"channels": 1}, "fixed at 3 channels, got 1"),
    ("DIFGSM", BALLS["linf"], {"size": (12, 10)}, "makes every image square"),
    ("Square", BALLS["l2"], {"size": (24, 24)}, "25 voxels or more"),
    ("Square", BALLS["l2"], {"size": (64, 40)}, "25 voxels or more"),
    ("APGDT", BALLS["linf"], {"classes": 3}, "at least 4 classes, got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ball", "wrong", "message"), WRONG)
def test_what_the_package_gets_wrong_is_refused(name, ball, wrong, message):
    model = model_of(wrong.get("channels", 3), wrong.get("classes", 5))
    batch = batch_for(model, wrong.get("channels", 3), size=wrong.get("size", (12, 12)))
    with pytest.raises(UnsupportedError, match=message):
        run(Torchattacks(name), model, batch, ball)


def test_tasks_volumes_and_double_precision_are_refused():
    model, ball = model_of(), BALLS["linf"]
    batch = batch_for(model)
    masks = Batch(batch.case_ids, batch.image, torch.zeros(3, 12, 12).long())
    with pytest.raises(UnsupportedError, match="whatever the task; got segmentation"):
        run(Torchattacks(), SEGMENTATION, masks, ball)
    volume = Batch(("a",), torch.rand(1, 3, 4, 4, 4), torch.tensor([0]))
    with pytest.raises(UnsupportedError, match="handles images"):
        run(Torchattacks(), model, volume, ball)
    double = Batch(batch.case_ids, batch.image.double(), batch.target)
    with pytest.raises(UnsupportedError, match="float64"):
        run(Torchattacks("FAB"), model, double, ball)
    with pytest.raises(UnsupportedError, match="at least 3 classes"):
        run(Torchattacks("APGD", {"loss": "dlr"}), model_of(classes=2), batch, ball)


class Opaque:
    """A model without gradients."""

    task = Task("classification", tuple("abcde"))
    bounds = (0.0, 1.0)
    inner = model_of()

    def __call__(self, image, context=None):
        return self.inner(image).detach()


def test_a_model_without_gradients_is_left_to_the_black_box_attacks():
    batch = batch_for(Opaque())
    with pytest.raises(UnsupportedError, match="gives no gradients"):
        run(Torchattacks("FGSM"), Opaque(), batch, BALLS["linf"])
    found = run(Torchattacks("Square", {"n_queries": 60}), Opaque(), batch, BALLS["linf"])
    assert (Opaque()(found).argmax(dim=1) != batch.target).any()


@pytest.mark.parametrize(("name", "settings", "error", "message"), [
    ("PGDD", {}, UnknownNameError, "did you mean 'PGD'"),
    ("AutoAttack", {}, UnsupportedError, "10 steps where the reference runs 100"),
    ("OnePixel", {}, UnsupportedError, "l0"),
    ("MultiAttack", {}, UnsupportedError, "name those"),
    ("GN", {}, UnsupportedError, "does not search"),
    ("PGD", {"step": 5}, InputError, "no setting 'step'; did you mean 'steps'"),
    ("PGD", {"eps": 0.1}, InputError, "eps comes from the ball"),
    ("PIFGSM", {"max_epsilon": 0.1}, InputError, "max_epsilon comes from the ball"),
    ("APGD", {"seed": 1}, InputError, "seed comes from the run"),
    ("FAB", {"n_classes": 3}, InputError, "n_classes comes from the run"),
    ("EADL1", {"max_iterations": 5}, UnsupportedError, "below 20 max_iterations"),
    ("EADEN", {"max_iterations": "5"}, InputError, "must be a number, got '5'"),
])  # fmt: skip
def test_names_and_settings_are_checked_when_it_is_built(name, settings, error, message):
    with pytest.raises(error, match=message):
        Torchattacks(name, settings)


def test_a_bridge_pickles_and_describes_itself():
    attack = Torchattacks("APGD", {"steps": 5})
    assert pickle.loads(pickle.dumps(attack)) == attack  # noqa: S301
    assert "APGD" in str(describe(attack))
