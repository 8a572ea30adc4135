import io
import json
import pickle
import sys
import warnings
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.cases import digest_of as manifest_digest
from robustbench_med.components import build
from robustbench_med.errors import (
    InputError,
    IntegrityError,
    UnknownNameError,
    UnsupportedError,
)
from robustbench_med.model import TorchModel
from robustbench_med.models import (
    build_network,
    load_model,
    model_digest,
    network_settings,
    pick_device,
    save_model,
)
from robustbench_med.onnx_model import OnnxModel
from robustbench_med.survey import survey
from robustbench_med.training.card import Card, card_path, read_card, write_card
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

TASK = Task("classification", ("benign", "malignant", "unsure"))
ENTRY = {"use": "lenet", "preset": "small", "weights": "weights/net.safetensors"}


def skin_cohort(task=TASK, bounds=(0, 1), channels=3, size=(16, 20)):
    draw = torch.Generator().manual_seed(0)
    cases = [
        Case(
            f"c{i}",
            f"p{i}",
            torch.rand(channels, *size, generator=draw),
            torch.tensor(i % 3),
            attributes={"sex": "f"},
        )
        for i in range(6)
    ]
    return Cohort("skin", task, bounds, cases)


@pytest.fixture
def trained(tmp_path):
    """A plan's folder with weights and card in it, and the network they are of."""
    cohort, settings = skin_cohort(), TrainSettings(epochs=1)
    network = build_network(ENTRY, cohort, seed=settings.seed)
    curve = train(network, cohort, settings, folder=tmp_path / "checkpoint")
    save_model(tmp_path / ENTRY["weights"], ENTRY, network, cohort, settings, curve)
    return tmp_path, network


def images(cohort):
    return next(cohort.batches(6)).image


def test_trained_weights_come_back_with_the_cards_shapes_task_and_bounds(trained):
    folder, network = trained
    model = load_model(ENTRY, folder=folder)
    assert (model.task, model.bounds) == (TASK, (0.0, 1.0))
    assert torch.equal(model(images(skin_cohort())), network(images(skin_cohort())))
    assert not model.network.training


def test_weights_load_without_a_card_where_a_cohort_tells_the_shapes(trained):
    folder, network = trained
    card_path(folder / ENTRY["weights"]).unlink()
    model = load_model(ENTRY, cohort=skin_cohort(), folder=str(folder))
    assert torch.equal(model(images(skin_cohort())), network(images(skin_cohort())))


def test_weights_load_without_card_and_cohort_where_the_entry_tells_everything(trained):
    folder, network = trained
    card_path(folder / ENTRY["weights"]).unlink()
    told = {
        "in_channels": 3, "classes": 3, "size": (16, 20), "bounds": [0, 1],
        "task": {"kind": "classification", "classes": list(TASK.classes)},
    }  # fmt: skip
    model = load_model(ENTRY | told, folder=folder)
    assert model.task == TASK
    assert torch.equal(model(images(skin_cohort())), network(images(skin_cohort())))
    with pytest.raises(InputError, match="task and bounds are not known"):
        load_model(ENTRY | {"in_channels": 3}, folder=folder)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_state_dict_of_tensors_loads(trained, suffix):
    folder, network = trained
    torch.save(network.state_dict(), folder / f"net{suffix}")
    entry = ENTRY | {"weights": f"net{suffix}"}
    model = load_model(entry, cohort=skin_cohort(), folder=folder)
    assert model_digest(model) == model_digest(load_model(ENTRY, folder=folder))


class Custom:
    def __init__(self):
        self.value = 1


class Hostile:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize("content", [Custom(), Hostile(), {"a": Hostile()}])
def test_a_checkpoint_that_needs_unpickling_is_refused_and_runs_nothing(tmp_path, capsys, content):
    for name, old_format in (("new.pt", False), ("old.pt", True)):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not old_format)
        with pytest.raises(InputError, match=r"expected tensors only.*save with safetensors"):
            load_model(ENTRY | {"weights": name}, cohort=skin_cohort(), folder=tmp_path)
    assert "must never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, "other entries: state_dict, epoch"),
        ([torch.zeros(1)], "expected tensors by name, got list"),
    ],
)
def test_a_checkpoint_of_another_structure_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(InputError, match=message):
        load_model(ENTRY | {"weights": "net.pt"}, cohort=skin_cohort(), folder=tmp_path)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_truncated_weights_are_refused(trained, name):
    folder, network = trained
    torch.save(network.state_dict(), folder / "net.pt")
    whole = (folder / (name if name == "net.pt" else ENTRY["weights"])).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"damaged|no whole safetensors"):
        load_model(ENTRY | {"weights": name}, cohort=skin_cohort(), folder=folder)


def test_altered_weights_are_refused(trained):
    folder, network = trained
    weights = network.state_dict()
    weights["layers.0.bias"] = weights["layers.0.bias"] + 1e-3
    save_file(weights, folder / ENTRY["weights"])
    with pytest.raises(InputError, match="altered: expected SHA-256"):
        load_model(ENTRY, folder=folder)


def test_missing_weights_say_how_to_train_them(tmp_path):
    with pytest.raises(InputError, match="rbmed train PLAN"):
        load_model(ENTRY, cohort=skin_cohort(), folder=tmp_path)
    with pytest.raises(InputError, match="rbmed train PLAN"):
        load_model({"use": "lenet"}, cohort=skin_cohort())


def test_weights_that_do_not_fit_are_told_name_by_name(trained):
    folder, network = trained
    weights = network.state_dict()
    del weights["layers.0.bias"]
    weights["extra"] = torch.zeros(1)
    weights["layers.3.bias"] = torch.zeros(99)
    save_file(weights, folder / "net.safetensors")
    with pytest.raises(InputError) as caught:
        load_model(ENTRY | {"weights": "net.safetensors"}, cohort=skin_cohort(), folder=folder)
    for part in ("missing: layers.0.bias", "unexpected: extra", r"layers.3.bias (99,) instead"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use": "unet"}, "its card says 'lenet', the plan says 'unet'"),
        ({"preset": "full"}, "preset is 'full' in the plan, 'small' in the model card"),
        ({"size": [28, 28]}, r"size is \[28, 28\] in the plan, \[16, 20\] in the model card"),
        ({"weights": "net.h5"}, "expected one of .safetensors, .pt, .pth"),
        ({"widht": 3}, "widht"),
        ({"use": ""}, "expected use = NAME"),
    ],
)
def test_entries_that_contradict_are_refused(trained, change, message):
    with pytest.raises(InputError, match=message):
        load_model(ENTRY | change, folder=trained[0])


def test_an_unknown_network_is_told_with_the_nearest_name(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'lenet'"):
        load_model(ENTRY | {"use": "lennet"}, folder=tmp_path)


@pytest.mark.parametrize(
    "cohort",
    [skin_cohort(task=Task("classification", ("nevus", "melanoma"))), skin_cohort(bounds=(-1, 1))],
)
def test_a_model_trained_for_something_else_than_the_cohort_is_refused(trained, cohort):
    with pytest.raises(InputError, match=r"trained for (task|bounds) .* cohort 'skin' has"):
        load_model(ENTRY, cohort=cohort, folder=trained[0])


def test_the_card_tells_what_was_trained_on_what(trained):
    folder, network = trained
    card = read_card(folder / ENTRY["weights"])
    assert card.settings == {"preset": "small", "in_channels": 3, "classes": 3, "size": [16, 20]}
    assert card.parameters == sum(p.numel() for p in network.parameters())
    assert card.cohort_digest == manifest_digest(survey(skin_cohort()))
    assert card.training["learning_rate"] == 1e-3
    assert [row["epoch"] for row in card.curve] == [1]
    assert card.versions["torch"] == torch.__version__


def test_the_card_keeps_a_preset_that_nobody_named(tmp_path):
    cohort = skin_cohort(size=(32, 32))
    entry = {"use": "lenet"}
    network = build_network(entry, cohort)
    save_model(tmp_path / "a.safetensors", entry, network, cohort, TrainSettings(), [])
    settings = read_card(tmp_path / "a.safetensors").settings
    assert settings["preset"] == "full"
    assert settings == network_settings(entry, cohort)


def test_a_card_round_trips(tmp_path):
    card = Card("unet", {"preset": "full"}, TASK, (0.0, 1.0), 3, "ab", "skin", "cd", date="today")
    write_card(tmp_path / "a.safetensors", card)
    read = read_card(tmp_path / "a.safetensors")
    assert replace(read, curve=()) == card
    assert read_card(tmp_path / "b.safetensors") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "schema_version 1"),
        ('{"schema_version": 2}', "schema_version 1"),
        ('{"schema_version": 1}', "missing or malformed: 'bounds'"),
        ('{"schema_version": 1, "bounds": [0, 1], "task": {"kind": "x"}}', "malformed"),
        ('{"schema_version": 1, "bounds": 3}', "malformed"),
    ],
)
def test_a_broken_card_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_card(tmp_path / "a.safetensors")


def test_a_card_misses_no_entry_silently(trained):
    folder, _ = trained
    path = card_path(folder / ENTRY["weights"])
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in whole.items() if k != "weights_sha256"}))
    with pytest.raises(InputError, match="weights_sha256"):
        load_model(ENTRY, folder=folder)


def test_a_network_is_built_for_its_cohort_and_by_its_seed():
    cohort = skin_cohort()
    before = torch.get_rng_state()
    first, same, other = (build_network(ENTRY, cohort, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first(images(cohort)).shape == (6, 3)
    digests = [model_digest(TorchModel(n, TASK, (0, 1))) for n in (first, same, other)]
    assert digests[0] == digests[1] != digests[2]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        settings = {"preset": "small", "in_channels": 3, "classes": 3, "size": (16, 20)}
        plain = build("networks", "lenet", **settings)
    assert torch.equal(next(plain.parameters()), next(first.parameters()))


def test_a_setting_that_contradicts_the_cohort_is_refused():
    with pytest.raises(InputError, match="in_channels is 1 in the plan, 3 in the cohort"):
        build_network(ENTRY | {"in_channels": 1}, skin_cohort())


def test_weights_are_kept_as_safetensors_only(tmp_path):
    cohort = skin_cohort()
    network = build_network(ENTRY, cohort)
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        save_model(tmp_path / "net.pt", ENTRY, network, cohort, TrainSettings(), [])


MODULE = """
import torch
from torch import nn
from robustbench_med.cases import Task
from robustbench_med.model import TorchModel

def bare(width=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(960, width))

def whole():
    return TorchModel(bare(3), Task("classification", ("a", "b", "c")), (0, 1))

def nothing():
    return 3

def network(in_channels=1, classes=2):
    return nn.Sequential(nn.Conv2d(in_channels, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    (tmp_path / "hospital_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "hospital_nets"
    sys.modules.pop("hospital_nets", None)


def test_a_function_may_return_a_bare_module_or_a_whole_model(hospital):
    cohort = skin_cohort()
    with torch.random.fork_rng():
        bare = load_model({"use": f"{hospital}:bare", "width": 3}, cohort=cohort)
        whole = load_model({"use": f"{hospital}:whole"})
    assert (bare.task, bare.bounds) == (cohort.task, cohort.bounds)
    assert whole.task.classes == ("a", "b", "c")
    assert torch.equal(bare(images(cohort)), whole(images(cohort)))


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"use": "hospital_nets:bare"}, InputError, "needs a cohort"),
        ({"use": "hospital_nets:nothing"}, InputError, "expected a torch module.*got int"),
        ({"use": "hospital_nets:bare", "depth": 1}, InputError, "depth"),
        ({"use": "hospital_nets:missing"}, UnknownNameError, "cannot load"),
        ({"use": "no_such_module:load"}, UnknownNameError, "cannot load"),
    ],
)
def test_functions_that_give_no_model_are_refused(hospital, entry, error, message):
    with torch.random.fork_rng(), pytest.raises(error, match=message):
        load_model(entry)


def test_a_users_network_is_trained_kept_and_loaded_like_a_listed_one(hospital, tmp_path):
    cohort, settings = skin_cohort(), TrainSettings(epochs=1)
    entry = {"use": f"{hospital}:network", "weights": "own.safetensors"}
    network = build_network(entry, cohort)
    curve = train(network, cohort, settings, folder=tmp_path / "checkpoint")
    save_model(tmp_path / "own.safetensors", entry, network, cohort, settings, curve)
    model = load_model(entry, cohort=cohort, folder=tmp_path)
    assert torch.equal(model(images(cohort)), network(images(cohort)))


def graph(tmp_path, batch, name="net.onnx", **changes):
    """A linear classifier, built node by node: its answers are known in closed form."""
    weights = np.random.default_rng(0).normal(size=(960, 3)).astype(np.float32)
    bias = np.array([0.5, -1, 2], dtype=np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        *changes.get("nodes", []),
    ]
    kind = changes.get("kind", TensorProto.FLOAT)
    outputs = [helper.make_tensor_value_info(changes.get("output", "logits"), kind, None)]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 16, 20])],
        outputs,
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / name, **changes.get("save", {}))
    return weights, bias


@pytest.mark.parametrize("batch", ["n", 1, 6])
def test_an_onnx_graph_answers_as_its_formula_whatever_its_batch(tmp_path, batch):
    weights, bias = graph(tmp_path, batch)
    cohort = skin_cohort()
    model = load_model({"use": "net.onnx"}, cohort=cohort, folder=tmp_path)
    image = images(cohort).requires_grad_()
    answer = model(image)
    expected = image.detach().numpy().reshape(6, -1).astype(np.float64) @ weights + bias
    torch.testing.assert_close(answer, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-5)
    assert (answer.requires_grad, model.task, model.bounds) == (False, TASK, (0.0, 1.0))


@pytest.mark.parametrize("network", ["unet", "lenet"])
def test_an_exported_network_answers_as_the_network(tmp_path, network):
    cohort = skin_cohort(channels=1, size=(16, 16))
    module = build_network({"use": network, "preset": "small"}, cohort).eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module, (images(cohort),), buffer, dynamo=False,
            input_names=["image"], dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(buffer.getvalue())
    model = OnnxModel(tmp_path / "net.onnx", cohort.task, cohort.bounds)
    with torch.no_grad():
        expected = module(images(cohort)[:4])
    torch.testing.assert_close(model(images(cohort)[:4]), expected, rtol=1e-5, atol=1e-5)


def test_an_onnx_model_pickles_after_use_and_keeps_its_digest(tmp_path):
    graph(tmp_path, "n")
    model = OnnxModel(tmp_path / "net.onnx", TASK, (0, 1))
    image = images(skin_cohort())
    answer = model(image)
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert torch.equal(copy(image), answer)
    assert (copy, model_digest(copy)) == (model, model_digest(model))


def test_an_onnx_file_that_changed_since_its_digest_is_refused(tmp_path):
    graph(tmp_path, "n")
    model = OnnxModel(tmp_path / "net.onnx", TASK, (0, 1))
    before = model.digest
    graph(tmp_path, 6)
    with pytest.raises(IntegrityError, match="changed while in use"):
        model(images(skin_cohort()))
    assert OnnxModel(tmp_path / "net.onnx", TASK, (0, 1)).digest != before


def test_onnx_images_of_another_shape_are_refused(tmp_path):
    graph(tmp_path, "n")
    model = OnnxModel(tmp_path / "net.onnx", TASK, (0, 1))
    with pytest.raises(InputError, match=r"takes images .*got \[2, 3, 16, 16\]"):
        model(torch.rand(2, 3, 16, 16))


def test_onnx_answers_that_are_no_logits_are_refused(tmp_path):
    nodes = [helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0)]
    graph(tmp_path, "n", nodes=nodes, output="label", kind=TensorProto.INT64)
    model = OnnxModel(tmp_path / "net.onnx", TASK, (0, 1))
    with pytest.raises(UnsupportedError, match="without argmax"):
        model(images(skin_cohort()))


def test_onnx_weights_outside_the_hashed_file_are_refused(tmp_path, monkeypatch):
    graph(tmp_path, "n", save={"save_as_external_data": True, "location": "w", "size_threshold": 0})
    monkeypatch.chdir(tmp_path)
    model = OnnxModel(tmp_path / "net.onnx", TASK, (0, 1))
    with pytest.raises(InputError, match="weights inside"):
        model(images(skin_cohort()))


@pytest.mark.parametrize("content", [b"", b"no graph", None])
def test_a_file_that_is_no_onnx_graph_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.onnx"):
        load_model({"use": "net.onnx"}, cohort=skin_cohort(), folder=tmp_path)(
            images(skin_cohort())
        )


@pytest.mark.parametrize(
    ("entry", "cohort", "message"),
    [
        ({"use": "net.onnx", "preset": "small"}, skin_cohort(), "takes no preset"),
        ({"use": "net.onnx"}, None, "task and bounds are not known"),
    ],
)
def test_onnx_entries_that_say_too_much_or_too_little_are_refused(tmp_path, entry, cohort, message):
    graph(tmp_path, "n")
    with pytest.raises(InputError, match=message):
        load_model(entry, cohort=cohort, folder=tmp_path)


def test_without_onnxruntime_the_way_to_get_it_is_told(tmp_path, monkeypatch):
    graph(tmp_path, "n")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnsupportedError, match=r"pip install onnxruntime"):
        OnnxModel(tmp_path / "net.onnx", TASK, (0, 1))(images(skin_cohort()))


@dataclass(frozen=True)
class Tempered:
    """A user's own model: no digest of its own."""

    network: nn.Module
    task: Task
    bounds: tuple[float, float]
    temperature: float = 1.0

    def __call__(self, image, context=None):
        return self.network(image) / self.temperature


def test_a_wrapper_without_digest_is_hashed_with_its_network_and_settings():
    network = build_network(ENTRY, skin_cohort())
    first = Tempered(network.train(), TASK, (0, 1))
    assert model_digest(first) == model_digest(Tempered(network, TASK, (0, 1)))
    assert model_digest(first) != model_digest(replace(first, temperature=2.0))
    before = model_digest(first)
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    assert model_digest(first) != before
    assert network.training


def test_a_model_that_cannot_be_hashed_is_asked_for_a_digest():
    network = build_network(ENTRY, skin_cohort())
    with pytest.raises(InputError, match="add a text attribute `digest`"):
        model_digest(lambda image: image)
    with pytest.raises(InputError, match="give it a `digest`"):
        model_digest(Tempered(network, TASK, (0, 1), temperature=torch.ones(1)))


def test_devices_are_named_or_picked():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "meta", "cuda:x", "cuda:99"):
        with pytest.raises(InputError, match="device"):
            pick_device(wrong)


def test_the_device_may_be_left_to_the_machine(trained):
    model = load_model(ENTRY, folder=trained[0], device="auto")
    assert next(model.network.parameters()).device.type == pick_device("auto")
