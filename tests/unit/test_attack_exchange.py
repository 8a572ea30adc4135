"""Examples as files: to the bit, from other tools, never weaker than before, or refused."""

import math
import pickle
import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchattacks
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from robustbench_med.attacks.examples import ball_name, example_name
from robustbench_med.attacks.fgsm import Fgsm
from robustbench_med.attacks.given import Given
from robustbench_med.attacks.keep import Keep
from robustbench_med.attacks.objective import TaskLoss
from robustbench_med.attacks.pgd import Pgd
from robustbench_med.attacks.random_search import RandomSearch
from robustbench_med.cases import Batch, Case, Cohort, Task
from robustbench_med.components import build
from robustbench_med.engine.cells import probe_digest
from robustbench_med.engine.evaluate import evaluate
from robustbench_med.errors import InputError, IntegrityError, PartialWarning
from robustbench_med.metrics.correct import Correct
from robustbench_med.model import TorchModel
from robustbench_med.probes import attacked, clean
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

PAGE = Path(__file__).parents[2] / "docs" / "attack.md"
IDS = ("knee/3", "Ä .%2F", "..")
BALLS = [
    Ball("linf", 0.05, (0.0, 1.0)),
    Ball("l2", 0.02, (0.0, 1.0), unit="fraction"),
    Ball("l1", 0.3, (0.0, 1.0), support="mask"),
]
LINF = BALLS[0]
MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("attacks_fixture.py"))))
run = MADE.run
correct = Correct()


def hand_over(folder, case_ids, images):
    """The function that the page gives to other tools."""
    programs = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (program,) = [text for text in programs if "def hand_over" in text]
    scope = {}
    exec(compile(program, "attack.md", "exec"), scope)  # noqa: S102
    folder.mkdir(exist_ok=True)
    scope["hand_over"](folder, case_ids, images)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    return TorchModel(network, Task("classification", ("a", "b")), (0.0, 1.0))


@pytest.fixture
def batch(model):
    image = 0.1 + 0.8 * torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 1, 6, 6)
    mask[..., :2] = 0
    with torch.no_grad():
        return Batch(IDS, image, model(image).argmax(dim=1), {"mask": mask})


def worst(model, batch, eps):
    """The worst image of a linear model of two classes under linf where no bound is active."""
    weight = model.network[1].weight.detach()
    slope = torch.stack([weight[1 - truth] - weight[truth] for truth in batch.target])
    return batch.image + eps * slope.sign().view_as(batch.image)


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_what_is_kept_is_given_back_to_the_bit(model, batch, ball, kind, tmp_path):
    model = TorchModel(model.network.to(kind), model.task, model.bounds)
    batch = replace(batch, image=batch.image.to(kind))
    found = run(Keep(str(tmp_path), Pgd(steps=5)), model, batch, ball)
    given = run(Given(str(tmp_path)), model, batch, ball)
    assert given.dtype == kind
    assert torch.equal(given, found)
    assert not torch.equal(found, batch.image)
    assert torch.equal(found, ball.project(run(Pgd(steps=5), model, batch, ball), batch.image,
                                           batch.context))  # fmt: skip


def test_what_is_kept_is_what_can_be_stored(model, batch, tmp_path):
    batch = replace(batch, image=(batch.image * 255).round() / 255)
    ball = Ball("linf", 0.05, (0.0, 1.0), levels=255)
    run(Keep(str(tmp_path), Pgd(steps=5)), model, batch, ball)
    given = run(Given(str(tmp_path)), model, batch, ball) * 255
    assert (given - given.round()).abs().max() < 1e-3
    assert (given - batch.image * 255).abs().max() == pytest.approx(12, abs=1e-3)


def test_there_is_one_file_a_case_which_says_what_it_is_of(model, batch, tmp_path):
    run(Keep(str(tmp_path)), model, batch, LINF)
    paths = sorted(path.name for path in (tmp_path / "linf-0.05").iterdir())
    assert paths == sorted(["knee%2F3.safetensors", "%C3%84%20.%252F.safetensors",
                            "...safetensors"])  # fmt: skip
    with safe_open(tmp_path / "linf-0.05" / "knee%2F3.safetensors", "pt") as file:
        assert file.metadata()["case"] == "knee/3"
        assert file.metadata()["source"] == "Pgd"


def test_examples_of_another_tool_count_in_the_worst_case(tmp_path):
    model, batch = MADE.trained()
    ball = Ball("linf", 0.02, (0.0, 1.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peer = torchattacks.PGD(model.network, eps=0.02, alpha=0.004, steps=20)
        theirs = peer(batch.image, batch.target)
    hand_over(tmp_path / "examples", batch.case_ids, theirs)

    cases = [Case(*part) for part in zip(batch.case_ids, batch.case_ids, batch.image, batch.target,
                                         strict=True)]  # fmt: skip
    cohort = Cohort("spots", model.task, model.bounds, cases)
    metrics = {"correct": correct}
    probes = [clean(metrics), attacked("draws", RandomSearch(queries=5), ball, metrics),
              attacked("given", Given(str(tmp_path / "examples")), ball, metrics)]  # fmt: skip
    values = {probe.name: {} for probe in probes}
    for record in evaluate(model, cohort, probes):
        values[record.probe][record.case_id] = record.value
    answered = {name: sum(column.values()) for name, column in values.items()}
    projected = ball.project(theirs, batch.image)  # torchattacks ends an ulp outside
    expected = MADE.still_right(model, batch, projected)
    assert answered["given[linf<=0.02]"] == expected
    assert expected < answered["draws[linf<=0.02]"] < answered["clean"] == len(batch)


def test_an_example_from_outside_the_ball_is_pulled_in_by_the_probe(model, batch, tmp_path):
    far = (batch.image + 10 * (worst(model, batch, 0.05) - batch.image)).clamp(0, 1)
    hand_over(tmp_path / "far", IDS, far)
    hand_over(tmp_path / "near", IDS, worst(model, batch, 0.05))

    def loss(output, target):
        return model.task.loss(output, target)

    outside, inside = (
        attacked("given", Given(str(tmp_path / name)), LINF, {"loss": loss}).measure(
            model, batch, CaseRng(0, "given", IDS)
        )["loss"]
        for name in ("far", "near")
    )
    torch.testing.assert_close(outside, inside, rtol=1e-5, atol=0)


def test_a_weaker_example_replaces_none_and_a_stronger_one_does(model, batch, tmp_path):
    def keep(share):
        image = batch.image + share * (worst(model, batch, 0.05) - batch.image)
        found = run(Keep(str(tmp_path), lambda *_: image), model, batch, LINF)
        assert torch.equal(found, LINF.project(image, batch.image))  # whatever is on disk
        return load_file(tmp_path / "linf-0.05" / example_name("knee/3"))["image"]

    assert not (tmp_path / "linf-0.05").exists()
    half, full = keep(0.5), keep(1.0)
    assert not torch.equal(half, full)
    assert torch.equal(keep(0.5), full)
    assert torch.equal(keep(-1.0), full)
    torch.testing.assert_close(full, worst(model, batch, 0.05)[0], atol=1e-7, rtol=0)


def test_nothing_is_written_where_nothing_worse_was_found(model, batch, tmp_path):
    better = 2 * batch.image - worst(model, batch, 0.05)
    run(Keep(str(tmp_path), lambda *_: better), model, batch, LINF)
    run(Keep(str(tmp_path), lambda *_: batch.image), model, batch, LINF)
    run(Keep(str(tmp_path)), model, batch, Ball("linf", 0.0, (0.0, 1.0)))
    assert not any(tmp_path.iterdir())


def test_the_order_of_attacks_and_of_cases_leaves_the_same_files(model, batch, tmp_path):
    weak, strong = Pgd(steps=1), Fgsm()
    orders = {"one": [weak, strong], "two": [strong, weak]}
    for name, attacks in orders.items():
        for attack in attacks:
            for row in (2, 0, 1) if name == "two" else (0, 1, 2):
                run(Keep(str(tmp_path / name), attack), model, batch[row], LINF)
    for case_id in IDS:
        one, two = (tmp_path / name / "linf-0.05" / example_name(case_id) for name in orders)
        assert one.read_bytes() == two.read_bytes()


def test_an_example_of_another_clean_image_or_ball_is_replaced(model, batch, tmp_path):
    keep = Keep(str(tmp_path), Pgd(steps=3))
    run(keep, model, batch, LINF)
    moved = replace(batch, image=(batch.image + 0.01).clamp(0, 1))
    found = run(keep, model, moved, LINF)
    assert torch.equal(run(Given(str(tmp_path)), model, moved, LINF), found)
    smaller = Batch(IDS, torch.rand(3, 1, 4, 9), batch.target)
    assert run(keep, model, smaller, LINF).shape == (3, 1, 4, 9)  # no file is in the way
    wide = Ball("linf", 0.05, (-1.0, 2.0))
    found = run(keep, model, moved, wide)
    assert torch.equal(run(Given(str(tmp_path)), model, moved, wide), found)


def test_balls_do_not_share_files(model, batch, tmp_path):
    keep = Keep(str(tmp_path), Pgd(steps=3))
    found = [run(keep, model, batch, ball) for ball in BALLS]
    assert len({ball_name(ball) for ball in BALLS}) == 3
    given = Given(str(tmp_path))
    for ball, image in zip(BALLS, found, strict=True):
        assert torch.equal(run(given, model, batch, ball), image)


def test_a_kept_attack_is_judged_by_its_own_objective():
    assert Keep("x", Pgd(objective="margin")).objective == build("objectives", "margin")
    assert Keep("x", {"use": "pgd"}).objective == TaskLoss()
    assert Keep("x", "square").objective is None
    assert Keep("x", "square", objective="ce").objective == build("objectives", "ce")


def test_cases_without_a_file_are_clean_or_counted_as_failed(model, batch, tmp_path):
    hand_over(tmp_path / "e", IDS[:1], worst(model, batch, 0.05)[:1])
    with pytest.warns(PartialWarning, match="no file for this case") as told:
        found = run(Given(str(tmp_path / "e")), model, batch, LINF)
    assert told[0].message.case_ids == IDS[1:]
    assert not torch.equal(found[0], batch.image[0])
    assert torch.equal(found[1:], batch.image[1:])

    cases = [Case(*part) for part in zip(IDS, IDS, batch.image, batch.target, strict=True)]
    cohort = Cohort("toy", model.task, model.bounds, cases)
    for missing, error, message in (("clean", "UnsupportedError", "its clean image was scored"),
                                    ("failed", "CaseError", "no ...safetensors in")):  # fmt: skip
        given = Given(str(tmp_path / "e"), missing=missing)
        failures = []
        probe = attacked("given", given, LINF, {"correct": correct})
        records = list(evaluate(model, cohort, [probe], on_failure=failures.append))
        assert [failure.case_id for failure in failures] == list(IDS[1:])
        assert {failure.error for failure in failures} == {error}
        assert message in failures[1].message
        assert math.isnan(records[-1].value) == (missing == "failed")


def test_other_contents_are_another_attack_and_can_be_pinned(model, batch, tmp_path):
    folder = tmp_path / "e"

    def digest():
        return probe_digest(attacked("given", Given(str(folder)), LINF, {}))

    hand_over(folder, IDS, batch.image)
    first = digest()
    assert digest() == first
    hand_over(folder, IDS[:1], batch.image[:1] + 1e-3)
    second = digest()
    (folder / example_name("..")).unlink()
    assert len({first, second, digest()}) == 3
    given = Given(str(folder))
    assert Given(str(folder), sha256=given.sha256) == given
    copy = pickle.loads(pickle.dumps(given))  # noqa: S301
    with pytest.warns(PartialWarning):
        assert torch.equal(run(copy, model, batch, LINF), run(given, model, batch, LINF))
    with pytest.raises(IntegrityError, match="its files are not those of sha256 abc"):
        Given(str(folder), sha256="abc")


def test_a_file_that_changes_during_a_run_ends_it(model, batch, tmp_path):
    hand_over(tmp_path / "e", IDS, batch.image)
    given = Given(str(tmp_path / "e"))
    hand_over(tmp_path / "e", IDS[:1], batch.image[:1] + 1e-3)
    with pytest.raises(IntegrityError, match=r"knee%2F3.safetensors: changed since the run began"):
        run(given, model, batch, LINF)


def test_given_treats_cases_alone_and_leaves_everything_as_it_was(model, batch, tmp_path):
    hand_over(tmp_path / "e", IDS, worst(model, batch, 0.05))
    given, image, state = Given(str(tmp_path / "e")), batch.image.clone(), torch.get_rng_state()
    together = run(given, model, batch, LINF)
    alone = torch.cat([run(given, model, batch[row], LINF) for row in (2, 1, 0)]).flip(0)
    assert torch.equal(alone, together)
    assert torch.equal(batch.image, image)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(run(given, model, batch, Ball("linf", 0.0, (0.0, 1.0))), batch.image)


def written(path, tensors, metadata):
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, metadata)


GOOD = torch.full((1, 6, 6), 0.5)
NAMED = {"case": "knee/3"}


@pytest.mark.parametrize(
    ("name", "tensors", "metadata", "complaint"),
    [
        ("knee3", {"image": GOOD}, NAMED, "is of case 'knee/3' by its metadata, whose file is"),
        ("knee%2F3", {"image": GOOD}, {"case": "KNEE/3"}, "is of case 'KNEE/3'"),
        ("knee%2F3", {"image": GOOD}, None, "its metadata lack 'case'"),
        ("knee%2F3", {"x": GOOD}, NAMED, "expected one tensor named 'image', got x"),
        ("knee%2F3", {"image": GOOD[0]}, NAMED, r"expected floating point \(1, 6, 6\)"),
        ("knee%2F3", {"image": GOOD.byte()}, NAMED, "expected floating point .* got torch.uint8"),
        ("knee%2F3", {"image": GOOD * torch.nan}, NAMED, "holds values that are not finite"),
        ("knee%2F3", {"image": GOOD * 255}, NAMED, r"expected values in \[0, 1\], got \[127.5"),
    ],
)
def test_a_file_that_is_no_example_of_its_case_is_one_line(
    name, tensors, metadata, complaint, model, batch, tmp_path
):
    written(tmp_path / "e" / f"{name}.safetensors", tensors, metadata)
    with pytest.raises(InputError, match=complaint) as told:
        run(Given(str(tmp_path / "e")), model, batch, LINF)
    assert f"{name}.safetensors" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_tampered_file_is_one_line_for_given_and_keep(model, batch, tmp_path):
    path = tmp_path / "linf-0.05" / example_name("knee/3")
    run(Keep(str(tmp_path)), model, batch, LINF)
    path.write_bytes(path.read_bytes()[:-7])
    for attempt in (lambda: Given(str(tmp_path)), lambda: run(Keep(str(tmp_path)), model, batch,
                                                              LINF)):  # fmt: skip
        with pytest.raises(InputError, match=r"knee%2F3.safetensors: cannot be read") as told:
            attempt()
        assert "\n" not in str(told.value)


def test_a_kept_image_that_was_moved_out_of_the_ball_is_not_believed(model, batch, tmp_path):
    run(Keep(str(tmp_path), Fgsm()), model, batch, LINF)
    path = tmp_path / "linf-0.05" / example_name("knee/3")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    far = batch.image[0].clone()  # worse than any in the ball, by one pixel
    far[0, 3, 3] = worst(model, batch, 50.0)[0, 0, 3, 3]
    save_file({"image": far}, path, metadata)
    found = run(Keep(str(tmp_path), Fgsm()), model, batch, LINF)
    assert torch.equal(load_file(path)["image"], found[0])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Given("nowhere"), "found no folder .*nowhere; a path that is not absolute"),
        (lambda: Given("."), "holds no .safetensors file; see 'Examples from elsewhere'"),
        (lambda: Given(3), "folder must be the path of a folder, got 3"),
        (lambda: Given(".", missing="skip"), "missing must be one of clean, failed, got 'skip'"),
        (lambda: Keep(""), "folder must be the path of a folder, got ''"),
        (lambda: Keep("x", inner=3), "expected a name, a table or one of the attacks, got 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=complaint):
        make()


def test_a_folder_that_cannot_be_written_to_is_one_line(model, batch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run(Keep(str(tmp_path / "file")), model, batch, LINF)
