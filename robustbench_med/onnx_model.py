"""An ONNX graph as a model: it answers, and gives no gradients."""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_med.cases import Bounds, Task
from robustbench_med.errors import InputError, IntegrityError, UnsupportedError
from robustbench_med.model import Context

# No folder of that name exists, so weights outside the hashed file are never found.
NOWHERE = "/nonexistent/external-weights-are-refused"


@dataclass(frozen=True)
class OnnxModel:
    """A graph with one input and one output, run by onnxruntime on the CPU. Pickles.

    Its output carries no gradient, so attacks that need one refuse it. A graph exported with
    a batch of 1 is run case by case.

    Attributes:
        file: The graph, with its weights inside.
        task: What it answers.
        bounds: The intensities it expects.
    """

    file: Path
    task: Task
    bounds: Bounds

    def __post_init__(self) -> None:
        low, high = self.bounds
        object.__setattr__(self, "file", Path(self.file))
        object.__setattr__(self, "bounds", (float(low), float(high)))
        if not self.file.is_file():
            raise InputError(f"model {self.file}: expected an ONNX file, found none")

    def __getstate__(self) -> dict[str, object]:
        """Leave the session behind: it does not pickle and is made again where needed."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "digest": self.digest
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        """See `__getstate__`."""
        self.__dict__.update(state)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def __call__(self, image: Tensor, context: Context | None = None) -> Tensor:
        """See `Model`; `context` is not used.

        Raises:
            UnsupportedError: If onnxruntime is missing, or the graph has several inputs or
                outputs, or others than float32.
            InputError: If the file is no ONNX graph, or takes images of another shape.
            IntegrityError: If the file changed since its digest was taken.
        """
        del context
        taken = self._session.get_inputs()[0]
        images = image.detach().cpu().to(torch.float32).contiguous()
        self._check_shape(taken.shape, images)
        chunks = torch.split(images, 1) if taken.shape[0] == 1 else (images,)
        outputs = [self._session.run(None, {taken.name: chunk.numpy()})[0] for chunk in chunks]
        return torch.from_numpy(np.concatenate(outputs)).to(image.device)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401
        runtime = _import_onnxruntime()
        content = self.file.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise IntegrityError(f"model {self.file}: the file changed while in use")
        session = _open(runtime, content, self.file)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        kinds = [value.type for value in (*inputs, *outputs)]
        if (len(inputs), len(outputs)) != (1, 1) or kinds != ["tensor(float)"] * 2:
            raise UnsupportedError(
                f"model {self.file}: expected one float32 input and one float32 output, "
                f"got {len(inputs)} and {len(outputs)} of {', '.join(kinds)}; "
                "export logits only, without argmax"
            )
        return session

    def _check_shape(self, declared: list[int | str | None], images: Tensor) -> None:
        fixed = [length if isinstance(length, int) else None for length in declared]
        if fixed and fixed[0] == 1:
            fixed[0] = None
        fits = len(fixed) == images.ndim and all(
            length in (None, got) for length, got in zip(fixed, images.shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"model {self.file}: takes images {declared}, got {list(images.shape)}; "
                "export with a dynamic batch axis, or a batch of 1"
            )


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise UnsupportedError(
            "onnx models need onnxruntime; install it with: pip install onnxruntime"
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


def _open(runtime: ModuleType, content: bytes, file: Path) -> Any:  # noqa: ANN401
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", NOWHERE
    )
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument,
            state.NotImplemented, state.RuntimeException) as error:  # fmt: skip
        raise InputError(
            f"model {file}: onnxruntime cannot run it; expected a whole ONNX file with its "
            f"weights inside, as torch.onnx.export writes it with external_data=False "
            f"({str(error).splitlines()[0]})"
        ) from error
