"""The same question for another verifier: the network as ONNX, its margins as VNN-LIB."""

import copy
import hashlib
import inspect
import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import torch
from torch import Tensor, nn

from robustbench_med.cases import Case, stack
from robustbench_med.certify.margin import class_margins, sign_margins
from robustbench_med.certify.operators import without_dropout
from robustbench_med.certify.region import region
from robustbench_med.certify.vnnlib import to_vnnlib
from robustbench_med.errors import InputError, UnsupportedError
from robustbench_med.model import Model, TorchModel
from robustbench_med.threat import Ball

NETWORK = "network.onnx"
OPSET = 13


def save_question(
    folder: Path, model: Model | nn.Module, case: Case, ball: Ball, target: Tensor | None = None
) -> Path:
    """Write a case's question beside its network.

    The question is whether any margin of the truth, of a segmentation at any pixel, can be 0 or
    less in the ball: `unsat` says certified, of all pixels together. The box is the one that the
    certifiers here bound, in the image's own floating-point type. Comments name the case and the
    SHA-256 of the network.

    Args:
        folder: Made if missing. Gets `network.onnx`, of a fixed batch of one, and
            `<case id>.vnnlib`, characters that no file name should have as `%XX`.
        model: A torch model, or a module whose outputs are class scores `(1, k, *s)`. Exported
            from a copy in evaluation mode, without dropout, its weights as they are.
        case: What is asked about.
        ball: Around its image; linf.
        target: What is to stay true instead of the case's own target.

    Returns:
        The question's file.

    Raises:
        UnsupportedError: If the `onnx` package is missing, the model is no torch network or takes
            context, its task has no margins, the ball is not linf, or ONNX has no such operator.
        InputError: If the target is none of the model's, or the folder holds another network.
        CaseError: If the image is not finite.
    """
    if ball.norm != "linf":
        raise UnsupportedError(f"interchange: VNN-LIB 1.0 describes boxes only, got {ball}")
    network, flags = _network(model)
    batch = stack([case]).to("cpu")
    around = region(ball, batch)
    with torch.no_grad():
        output = network(batch.image)[0]
    truth = (case.target if target is None else target).cpu()
    _check_target(output, truth, flags=flags)
    rows = (sign_margins if flags else class_margins)(output, truth.long())
    content = _onnx(network, batch.image)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _keep(folder / NETWORK, content)
    head = (
        f"; {case.case_id!a} in {str(ball)!a}: can any margin be 0 or less?\n"
        f"; unsat: certified. {NETWORK}, SHA-256 {hashlib.sha256(content).hexdigest()}\n"
    )
    path = folder / f"{quote(case.case_id, safe='')}.vnnlib"
    path.write_text(head + to_vnnlib(around.low, around.high, rows), encoding="ascii")
    return path


def _network(model: Model | nn.Module) -> tuple[nn.Module, bool]:
    """The plain copy, and whether its outputs are flags."""
    if isinstance(model, nn.Module):
        network, kind = model, "classification"
    elif isinstance(model, TorchModel):
        network, kind = model.network, model.task.kind
    else:
        raise UnsupportedError(f"interchange: needs a torch network, got {type(model).__name__}")
    if kind not in ("classification", "multilabel", "segmentation"):
        raise UnsupportedError(f"interchange: no margin is defined for the task {kind}")
    if "context" in inspect.signature(network.forward).parameters:
        raise UnsupportedError("interchange: a network that takes context has no ONNX form here")
    plain = without_dropout(copy.deepcopy(network)).eval().cpu().requires_grad_(requires_grad=False)
    return plain, kind == "multilabel"


def _check_target(output: Tensor, target: Tensor, *, flags: bool) -> None:
    expected = output.shape if flags else output.shape[1:]
    if target.shape != expected:
        raise InputError(
            f"interchange: the target must be {tuple(expected)}, got {tuple(target.shape)}"
        )
    classes = 2 if flags else len(output)
    if not (target.min() >= 0 and target.max() < classes):
        raise InputError(
            f"interchange: the target must be from 0 to {classes - 1}, "
            f"got {int(target.min())} to {int(target.max())}"
        )


def _onnx(network: nn.Module, image: Tensor) -> bytes:
    if find_spec("onnx") is None:
        raise UnsupportedError("interchange: needs the package onnx; pip install onnx")
    file, trace = io.BytesIO(), cast("Any", torch.jit.trace)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Tracing turns what leaves torch into a constant, which shows at another image only.
            traced = trace(network, image, check_inputs=[(image.flip(-1) / 2,)])
            # The other exporter needs onnxscript. Modes stay as they are, which is evaluation: in
            # its own mode of evaluation the exporter would fold, and so round, weights.
            torch.onnx.export(
                traced, (image,), cast("Any", file), input_names=["X"], output_names=["Y"],
                opset_version=OPSET, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
            )  # fmt: skip
    except torch.jit.TracingCheckError as error:  # type: ignore[attr-defined]
        raise UnsupportedError(
            "interchange: the network computes something else when its graph is fixed; its forward "
            "must not depend on values taken out of tensors"
        ) from error
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        line = next((text for text in str(error).splitlines() if text.strip()), "")
        raise UnsupportedError(f"interchange: the network has no ONNX form ({line})") from error
    return file.getvalue()


def _keep(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() != content:
        raise InputError(f"{path}: holds another network; ask about this one in another folder")
    path.write_bytes(content)
