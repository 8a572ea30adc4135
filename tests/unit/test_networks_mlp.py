"""The perceptron against its formula, and a plan on vectors from training to certificates."""

import json
import math
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import robustbench_med as rb
from robustbench_med import bound
from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.cli import main
from robustbench_med.components import build
from robustbench_med.errors import InputError
from robustbench_med.networks.mlp import mlp

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks_fixture.py"))))
DECIDED = Task("classification", ("low", "high"))


def measures(count=24, length=4, name="measures"):
    """Vectors in [0, 1]; the class is which half of them is larger."""
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(count, length, generator=draw)
    half = length // 2
    larger = values[:, :half].sum(1) > values[:, half:].sum(1)
    cases = [Case(f"c{i}", f"p{i}", v, larger[i].long()) for i, v in enumerate(values)]
    return Cohort(name, DECIDED, (0, 1), cases)


@pytest.mark.parametrize(
    ("preset", "width", "parameters"), [("full", 256, 69_893), ("small", 32, 1_573)]
)
def test_presets_have_the_parameters_they_tell_and_differ_in_widths_only(preset, width, parameters):
    network = build("networks", "mlp", preset=preset)
    counted = 11 * width + (width + 1) * width + (width + 1) * 5
    assert MADE.parameters(network) == counted == parameters
    assert [type(m) for m in network.modules()] == [type(m) for m in mlp().modules()]


@pytest.mark.parametrize("size", [(), (4,), (2, 3), (2, 1, 3)])
def test_it_takes_vectors_and_grids_of_any_number_of_axes(size):
    network = mlp(preset="small", in_channels=3, classes=4, size=size)
    values = torch.rand(5, 3, *size)
    assert network(values).shape == (5, 4)
    flat = mlp(preset="small", in_channels=values[0].numel(), classes=4)
    flat.load_state_dict(network.state_dict())
    assert torch.equal(network(values), flat(values.flatten(1)))


def test_it_equals_its_formula_and_standardises_nothing():
    network = mlp(preset="small").double()
    values = 100 * torch.rand(6, 10, dtype=torch.float64)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    hidden = values.numpy()
    for layer in (1, 3):
        weight, bias = state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"]
        hidden = np.maximum(hidden @ weight.T + bias, 0)
    expected = hidden @ state["layers.5.weight"].T + state["layers.5.bias"]
    np.testing.assert_allclose(network(values).detach().numpy(), expected)
    # Biases start at 0: without any standardisation, ten times the input is ten times the output.
    torch.testing.assert_close(network(10 * values), 10 * network(values))


def test_weights_start_he_normal_and_biases_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = mlp()
    for name, tensor in network.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            assert tensor.std().item() == pytest.approx(math.sqrt(2 / tensor.shape[1]), rel=0.1)


def test_dropout_is_drawn_in_training_only_and_changes_no_weights_name_to_load():
    network, values = mlp(preset="small", dropout=0.5), torch.rand(8, 10)
    assert not torch.equal(network(values), network(values))
    network.eval()
    assert torch.equal(network(values), network(values))
    assert sum(isinstance(m, nn.Dropout) for m in network.modules()) == 2
    assert repr(network) != repr(mlp(preset="small"))


@pytest.mark.parametrize("method", ["ibp", "crown_ibp", "crown"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_it_can_be_bounded_and_no_sample_escapes(method, dropout):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = mlp(preset="small", dropout=dropout).eval()
    stream = torch.Generator().manual_seed(0)
    values = torch.rand(2, 10, generator=stream)
    lower, upper = bound(network, values - 0.05, values + 0.05, method=method)
    noise = 0.1 * torch.rand(500, 2, 10, generator=stream) - 0.05
    found = network((values + noise).flatten(0, 1)).unflatten(0, (500, 2))
    assert (found >= lower - 1e-5).all()
    assert (found <= upper + 1e-5).all()


def test_the_traced_graph_computes_the_same():
    network, values = mlp(preset="small"), torch.rand(3, 10)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(network, values)
    torch.testing.assert_close(traced(values), network(values))


def test_small_can_be_trained_on_vectors(tmp_path):
    first, last = MADE.learns(mlp, tmp_path, measures(), dropout=0.1)
    assert last < first


def test_vectors_can_be_attacked_and_certified():
    cohort = measures(8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = rb.TorchModel(mlp(preset="small", in_channels=4, classes=2), DECIDED, (0, 1))
    ball, correct = rb.Ball("l2", 0.05, (0, 1)), {"correct": rb.build("metrics", "correct")}
    probes = [
        rb.clean(correct),
        rb.attacked("pgd", rb.build("attacks", "pgd", steps=3), ball, correct),
        rb.certified("crown", rb.build("certifiers", "crown"), ball),
    ]
    table = {(r.probe, r.metric, r.case_id): r.value for r in rb.evaluate(model, cohort, probes)}
    for case in cohort.cases:
        found = [table[probe.name, "correct", case.case_id] for probe in probes[:2]]
        assert found[1] <= found[0]
        assert table[probes[2].name, "certified", case.case_id] <= found[1]


PLAN = """
name = "decision"
seed = 1
metrics = [{ use = "correct" }]
model = { use = "mlp", preset = "small", weights = "mlp.safetensors" }

[cohort]
use = "folder"
folder = "."
task = "classification"
columns = { case = "case", patient = "patient", image = "image", target = "label" }
labels = { low = 0, high = 1 }
intensity = [0, 200]
splits = { column = "split" }
split = "test"

[train]
epochs = 30
learning_rate = 0.01

[[attack]]
use = "pgd"
steps = 3
ball = { norm = "linf", eps = 0.02 }

[[certificate]]
use = "crown"
ball = { norm = "linf", eps = 0.02 }
"""


def test_a_plan_takes_measures_from_numpy_files_of_one_row(tmp_path, capsys):
    stream = np.random.default_rng(0)
    rows = ["case,patient,image,label,split"]
    for number in range(36):
        values = stream.uniform(0, 200, (1, 4)).astype(np.float32)
        np.save(tmp_path / f"{number}.npy", values)
        split = "train" if number < 24 else "test"
        label = int(values[0, :2].sum() > values[0, 2:].sum())
        rows.append(f"c{number},p{number},{number}.npy,{label},{split}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    (tmp_path / "plan.toml").write_text(PLAN)
    assert main(["train", str(tmp_path / "plan.toml"), "--quiet"]) == 0
    card = json.loads((tmp_path / "mlp.json").read_text())
    assert card["settings"] == {
        "preset": "small", "in_channels": 1, "classes": 2, "size": [1, 4], "dropout": 0.0,
    }  # fmt: skip
    assert main(["train", str(tmp_path / "plan.toml"), "--quiet"]) == 0
    assert "trained before" in capsys.readouterr().out
    assert main(["run", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "run")]) == 0
    records = rb.Run.open(tmp_path / "run").records
    assert set(records["kind"]) == {"clean", "attack", "certificate"}
    assert records["value"].notna().all()
    proved = records[records["metric"] == "certified"].set_index("case_id")["value"]
    assert 0 < proved.mean() < 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": "tiny"}, "mlp: preset must be one of full, small, got 'tiny'"),
        ({"classes": 0}, r"at least 1, got 10, 0 and \[\]"),
        ({"size": (4, 0)}, r"at least 1, got 10, 5 and \[4, 0\]"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": math.nan}, "dropout must be at least 0 and below 1, got nan"),
    ],
)
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        mlp(**settings)


@pytest.mark.parametrize("shape", [(2, 9), (2, 10, 1), (2, 1, 10)])
def test_values_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"mlp: built for values \(10,\) per case, got"):
        mlp(preset="small")(torch.rand(shape))
