"""Images that an attack found, as files: one a case, to be read by another tool or from it.

A file is a `.safetensors` with one tensor `image`, `(c, *s)`, in the model's intensities, and the
metadata `case`, the case id. It is named by the id, percent-escaped: `knee/3` is
`knee%2F3.safetensors`. More metadata is allowed: `source` says who found it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from robustbench_med.errors import InputError
from robustbench_med.runfolder import write_whole
from robustbench_med.threat import Ball

SUFFIX = ".safetensors"


def example_name(case_id: str) -> str:
    """Name of a case's file: its id, all but letters, digits and `_.-~` percent-escaped."""
    return quote(case_id, safe="") + SUFFIX


def ball_name(ball: Ball) -> str:
    """Name of the folder for the examples of one ball: `linf-0.1`, `l2-0.02-of-norm-on-mask`."""
    return quote(str(ball).replace("<=", "-").replace(" ", "-"), safe="")


def write_example(path: Path, case_id: str, image: Tensor, metadata: Mapping[str, str]) -> None:
    """Write one image `(c, *s)`, to the bit, so that the file is there whole or not at all.

    Raises:
        InputError: If the folder cannot be written to.
    """
    tensors = {"image": image.detach().cpu().contiguous()}
    content = _in_order(save(tensors, {**metadata, "case": case_id}))
    write_whole(path, lambda partial: partial.write_bytes(content))


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of one file, whose name was held against its case.

    Raises:
        InputError: If it is no such file, or named after another case.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = list(file.keys()), dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {_line(error)}") from error
    if names != ["image"]:
        held = ", ".join(names) or "none"
        raise InputError(f"{path}: expected one tensor named 'image', got {held}")
    if not metadata.get("case"):
        raise InputError(f"{path}: its metadata lack 'case', the id of the case it is of")
    if path.name != example_name(metadata["case"]):
        raise InputError(f"{path}: is of case {metadata['case']!r} by its metadata, whose file is "
                         f"named {example_name(metadata['case'])}")  # fmt: skip
    return metadata


def read_image(path: Path, like: Tensor) -> Tensor:
    """Image of one file, placed and typed as the clean image `like`, `(c, *s)`.

    Raises:
        InputError: If its shape is another, it is no floating point, or a value is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            image: Tensor = file.get_tensor("image")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {_line(error)}") from error
    if image.shape != like.shape or not image.is_floating_point():
        raise InputError(f"{path}: expected floating point {tuple(like.shape)}, as the case's "
                         f"image, got {image.dtype} {tuple(image.shape)}")  # fmt: skip
    if not image.isfinite().all():
        raise InputError(f"{path}: holds values that are not finite")
    return image.to(like)


def image_digest(image: Tensor) -> str:
    """Hash of one image `(c, *s)`: its type, its shape and every bit."""
    digest = hashlib.sha256(f"{image.dtype}{tuple(image.shape)}".encode())
    digest.update(image.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _in_order(content: bytes) -> bytes:
    """The same file with its header's keys sorted: safetensors writes metadata in random order.

    A file is 8 bytes, the length of the header, little-endian; the header, JSON that may end in
    spaces; and the values, which start at a multiple of 8.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
