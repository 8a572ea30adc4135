"""Questions for other verifiers, read back by a reader of our own and answered exactly."""

import hashlib
import itertools
import re
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from robustbench_med.cases import Batch, Case, Task
from robustbench_med.certify import interchange
from robustbench_med.certify.crown import Crown
from robustbench_med.certify.interchange import save_question
from robustbench_med.certify.margin import DenseRows, SparseRows, class_margins
from robustbench_med.certify.region import region
from robustbench_med.certify.vnnlib import to_vnnlib
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import TorchModel
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

UNIT = (0.0, 1.0)


@dataclass
class Question:
    """What a reader makes of the text: limits of X, and sums of Y that may not exceed a number."""

    low: dict = field(default_factory=dict)
    high: dict = field(default_factory=dict)
    outputs: int = 0
    broken: list = field(default_factory=list)


def expressions(text):
    """Nested lists of words, from text of S-expressions with comments."""
    words = re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text))
    stack = [[]]
    for word in words:
        if word == "(":
            stack.append([])
        elif word == ")":
            last = stack.pop()
            stack[-1].append(last)
        else:
            stack[-1].append(word)
    assert len(stack) == 1, "brackets do not match"
    return stack[0]


def number(word):
    """SMT-LIB decimals know no exponent; the sign in front is VNN-LIB's."""
    assert re.fullmatch(r"-?\d+\.\d+", word), word
    return Fraction(word)


def summed(term):
    """Factors by output, and a constant."""
    if isinstance(term, str):
        return ({term: Fraction(1)}, 0) if term[0] == "Y" else ({}, number(term))
    if term[0] == "*":
        assert len(term) == 3
        return {term[2]: number(term[1])}, 0
    assert term[0] == "+"
    parts = [summed(one)[0] for one in term[1:]]
    assert len({name for part in parts for name in part}) == len(parts)
    return {name: value for part in parts for name, value in part.items()}, 0


def inequality(term):
    """`sum <= number` as factors by output and the number."""
    sign, left, right = term
    (a, c), (b, d) = summed(left), summed(right)
    flip = {"<=": 1, ">=": -1}[sign]
    names = {*a, *b}
    return {n: flip * (a.get(n, 0) - b.get(n, 0)) for n in names}, flip * (d - c)


def read(text):
    found = Question()
    for one in expressions(text):
        if one[0] == "declare-const":
            assert one[2] == "Real"
            found.outputs += one[1][0] == "Y"
        elif one[1][0] == "or":
            found.broken = [inequality(part[1]) for part in one[1][1:] if part[0] == "and"]
            assert len(found.broken) == len(one[1]) - 1
        elif isinstance(one[1][1], str) and one[1][1][0] == "X":
            side = {">=": found.low, "<=": found.high}[one[1][0]]
            assert one[1][1] not in side
            side[one[1][1]] = number(one[1][2])
        else:
            assert not found.broken
            found.broken = [inequality(one[1])]
    return found


def exact(values):
    return [Fraction(value) for value in values]


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=4), st.data())
def test_box_and_rows_are_read_back_exactly(pairs, data):
    low, high = (
        torch.tensor([[f(pair) for pair in pairs]], dtype=torch.float64) for f in (min, max)
    )
    outputs = data.draw(st.integers(1, 4))
    factors = st.sampled_from([0.0, 1.0, -1.0, 0.1, -2.5e-7]) | finite
    drawn = data.draw(
        st.lists(st.lists(factors, min_size=outputs, max_size=outputs), min_size=1, max_size=3)
    )
    matrix = torch.tensor(drawn, dtype=torch.float64)
    matrix[(matrix == 0).all(dim=1), 0] = 1.0
    needed = data.draw(st.sampled_from([0.0, 1e-5, -0.3]))
    found = read(to_vnnlib(low, high, DenseRows(matrix), needed))
    names = [f"X_{i}" for i in range(len(pairs))]
    assert [found.low[name] for name in names] == exact(low[0].tolist())
    assert [found.high[name] for name in names] == exact(high[0].tolist())
    assert found.outputs == outputs
    assert len(found.low) == len(found.high) == len(pairs)
    for (factors, most), row in zip(found.broken, matrix.tolist(), strict=True):
        read_row = [factors.get(f"Y_{j}", Fraction(0)) for j in range(outputs)]
        # `(<= Y_i Y_j)` stands for any multiple of the difference.
        scale = next(Fraction(v) / f for v, f in zip(row, read_row, strict=True) if f)
        assert scale > 0
        assert [scale * f for f in read_row] == exact(row)
        assert scale * most == Fraction(needed)


def test_the_usual_margins_are_written_as_everybody_reads_them():
    low, high = torch.tensor([[0.1, -2.0]]), torch.tensor([[0.25, 1e-7]])
    rows = class_margins(torch.zeros(3), torch.tensor(1))
    text = to_vnnlib(low, high, rows)
    assert text.splitlines() == [
        "(declare-const X_0 Real)", "(declare-const X_1 Real)",
        "(declare-const Y_0 Real)", "(declare-const Y_1 Real)", "(declare-const Y_2 Real)",
        "(assert (>= X_0 0.100000001490116119384765625))", "(assert (<= X_0 0.25))",
        "(assert (>= X_1 -2.0))",
        "(assert (<= X_1 0.00000010000000116860974230803549289703369140625))",
        "(assert (or", "    (and (<= Y_1 Y_0))", "    (and (<= Y_1 Y_2))", "))",
    ]  # fmt: skip
    one = to_vnnlib(low, high, class_margins(torch.zeros(2), torch.tensor(0)))
    assert one.splitlines()[-1] == "(assert (<= Y_0 Y_1))"
    single = SparseRows(torch.tensor([[1], [0]]), torch.tensor([[1.0], [-1.0]]), 2)
    assert "(<= Y_1 0.5)" in to_vnnlib(low, high, single, 0.5)
    assert "(>= Y_0 -0.5)" in to_vnnlib(low, high, single, 0.5)


def test_float32_corners_are_the_same_numbers_to_a_reader_of_float32():
    low = torch.rand(1, 50, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    rows = DenseRows(torch.tensor([[1.0, -1.0]]))
    found = read(to_vnnlib(low, low + 1e-3, rows))
    again = [np.float32(str(float(found.low[f"X_{i}"]))) for i in range(50)]
    assert again == low[0].tolist()


def built(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2)
        return network


def conv_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


def segmenter():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.ConvTranspose2d(4, 3, 2, 2)
    )


def model_of(make, kind="classification"):
    return TorchModel(built(make), Task(kind, tuple("abc")), UNIT)


def case_of(target, name="case", size=8):
    image = torch.rand(1, size, size, generator=torch.Generator().manual_seed(1))
    return Case(name, "patient", image, torch.as_tensor(target))


BALL = Ball("linf", 0.02, UNIT)


@pytest.mark.parametrize(
    ("make", "kind", "target"),
    [
        (conv_net, "classification", 2),
        (conv_net, "multilabel", [1, 0, 1]),
        (segmenter, "segmentation", np.arange(64).reshape(8, 8) % 3),
    ],
)
def test_the_network_answers_alike_and_the_question_is_about_its_margins(
    make, kind, target, tmp_path
):
    model, case = model_of(make, kind), case_of(target)
    path = save_question(tmp_path / "asked", model, case, BALL)
    content = (tmp_path / "asked" / "network.onnx").read_bytes()
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version == 13
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = read(path.read_text())
    around = region(BALL, Batch(("case",), case.image[None], case.target[None]))
    stream = torch.Generator().manual_seed(2)
    for _ in range(5):
        image = torch.lerp(around.low, around.high, torch.rand(around.low.shape, generator=stream))
        (output,) = session.run(None, {"X": image.numpy()})
        theirs = model(image).detach()
        assert np.allclose(output, theirs.numpy(), atol=1e-5)
        y = {f"Y_{j}": Fraction(float(v)) for j, v in enumerate(output.ravel())}
        sums = [sum(v * y[n] for n, v in row.items()) <= most for row, most in found.broken]
        answer = (theirs > 0) if kind == "multilabel" else theirs.argmax(dim=1)
        assert any(sums) == bool((answer[0] != case.target).any())
    assert exact(around.low.flatten().tolist()) == list(found.low.values())
    assert exact(around.high.flatten().tolist()) == list(found.high.values())
    assert len(found.broken) == {"classification": 2, "multilabel": 3, "segmentation": 128}[kind]
    assert hashlib.sha256(content).hexdigest() in path.read_text()


def hits(network, question):
    """Whether some X of the box breaks a row, by trying every pattern of the ReLUs."""
    first, _, last = network[1:]
    (w, b), (v, c) = (
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (first, last)
    )
    names = [f"X_{i}" for i in range(w.shape[1])]
    box = [(float(question.low[n]), float(question.high[n])) for n in names]
    for row, most in question.broken:
        r = np.array([float(row.get(f"Y_{j}", 0)) for j in range(len(c))])
        for pattern in itertools.product((0.0, 1.0), repeat=len(b)):
            on = np.array(pattern)
            sides = 1 - 2 * on  # active: -(w x + b) <= 0
            limits = np.concatenate([sides[:, None] * w, (r @ (v * on) @ w)[None]])
            free = float(most) - r @ (c + (v * on) @ b)
            most_of = np.concatenate([-sides * b, [free]])
            if linprog(np.zeros(len(names)), limits, most_of, bounds=box).status == 0:
                return True
    return False


def test_an_exact_answer_to_the_question_agrees_with_our_certifier(tmp_path):
    seen = set()
    for seed, eps in itertools.product(range(4), (0.005, 0.05, 0.5)):
        network = built(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), seed
        )
        model = TorchModel(network, Task("classification", tuple("abc")), UNIT)
        image = torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():  # so that the truth wins by a little
            network[-1].bias -= network(image[None])[0] - torch.tensor([0.02, 0.0, 0.0])
        case = Case(f"case/{seed}", "patient", image, model(image[None]).argmax())
        ball = Ball("linf", eps, UNIT)
        path = save_question(tmp_path / f"{seed}", model, case, ball)
        assert path.name == f"case%2F{seed}.vnnlib"
        batch = Batch((case.case_id,), image[None], case.target[None])
        proved = Crown()(model, batch, ball, CaseRng(1, "crown", batch.case_ids))[
            "certified"
        ].item()
        sat = hits(network, read(path.read_text()))
        assert not (proved and sat)
        if eps < 0.01:
            assert bool(proved) != sat  # CROWN is exact, or nearly, in so small a ball
        seen.add((bool(proved), sat))
    assert {(True, False), (False, True)} <= seen


def test_a_module_and_another_truth_can_be_asked_about(tmp_path):
    case = case_of(0)
    network = built(conv_net).train()
    asked = read(save_question(tmp_path, network, case, BALL, torch.tensor(2)).read_text())
    assert {frozenset(row.items()) for row, _ in asked.broken} == {
        frozenset({("Y_2", 1), ("Y_0", -1)}), frozenset({("Y_2", 1), ("Y_1", -1)})
    }  # fmt: skip
    assert network.training
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    image = case.image[None]
    with torch.no_grad():
        assert np.allclose(
            session.run(None, {"X": image.numpy()})[0], network.eval()(image), atol=1e-5
        )


def test_a_folder_holds_the_questions_of_one_network(tmp_path):
    paths = [
        save_question(tmp_path, model_of(conv_net), case_of(0, n), BALL) for n in ("a", "b ü\n")
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*(p.name for p in paths), "network.onnx"]
    )
    assert read(paths[1].read_text()).outputs == 3
    with pytest.raises(InputError, match="holds another network"):
        save_question(
            tmp_path, model_of(segmenter, "segmentation"), case_of(torch.zeros(8, 8)), BALL
        )


class Contextual(nn.Module):
    def forward(self, image, context):
        return image


class Fourier(nn.Module):
    def forward(self, image):
        return torch.fft.fft2(image).real


class Frozen(nn.Module):
    def forward(self, image):
        return image * float(image.mean())


@pytest.mark.parametrize(
    ("network", "ball", "words"),
    [
        (conv_net(), Ball("l2", 0.1, UNIT), "describes boxes only, got l2<=0.1"),
        (Contextual(), BALL, "takes context"),
        (Fourier(), BALL, "no ONNX form .*fft"),
        (Frozen(), BALL, "something else when its graph is fixed"),
        (lambda image: image, BALL, "needs a torch network, got function"),
        (TorchModel(Frozen(), Task("regression", ("mL",)), UNIT), BALL, "for the task regression"),
    ],
)
def test_what_cannot_be_asked_is_unsupported(network, ball, words, tmp_path):
    target = torch.zeros(8, 8, dtype=torch.long) if not isinstance(network, nn.Sequential) else 0
    with pytest.raises(UnsupportedError, match=words):
        save_question(tmp_path / "x", network, case_of(target), ball)
    assert not (tmp_path / "x").exists()


def test_without_the_onnx_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(interchange, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="pip install onnx"):
        save_question(tmp_path, model_of(conv_net), case_of(0), BALL)


ROWS = DenseRows(torch.tensor([[1.0, -1.0]]))
POINT = torch.zeros(1, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: to_vnnlib(POINT, POINT - 1, ROWS), "low must not exceed high"),
        (lambda: to_vnnlib(POINT * torch.nan, POINT, ROWS), "must be finite"),
        (lambda: to_vnnlib(POINT.repeat(2, 1), POINT.repeat(2, 1), ROWS), "box of one case, got 2"),
        (lambda: to_vnnlib(POINT, POINT, DenseRows(torch.zeros(1, 2))), "one of zeros"),
        (lambda: to_vnnlib(POINT, POINT, DenseRows(torch.zeros(0, 2))), "at least one row"),
        (lambda: to_vnnlib(POINT, POINT, DenseRows(torch.eye(2)), torch.inf), "finite numbers"),
    ],
)  # fmt: skip
def test_what_makes_no_question_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_a_target_that_is_none_of_the_models_is_refused(tmp_path):
    with pytest.raises(InputError, match="from 0 to 2, got 3 to 3"):
        save_question(tmp_path, model_of(conv_net), case_of(3), BALL)
    with pytest.raises(InputError, match=r"must be \(\), got \(1,\)"):
        save_question(tmp_path, model_of(conv_net), case_of([0]), BALL)
