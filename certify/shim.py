"""Import auto-LiRPA so that its release 0.3 runs on today's torch."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from robustbench_med.errors import UnsupportedError

PATCHED = ("0.3",)
AS_IS = ("0.7.1",)
INSTALL = "pip install --no-deps auto-LiRPA==0.3"
_OPSET = "torch.onnx._internal.torchscript_exporter._globals"
_RULES = "torch.onnx._internal.torchscript_exporter.registration"
_OLDEST = (9, 10)


def auto_lirpa() -> ModuleType:
    """Return the module `auto_LiRPA`, imported and patched on the first call.

    Release 0.3 asks for names that torch and NumPy have since moved; they are put back.
    Version 0.7.1 is used as it is. Its prints and progress bars are silenced.

    Raises:
        UnsupportedError: If it is not installed, or in a version nobody has tried here.
    """
    installed = _installed_version()
    if "auto_LiRPA" in sys.modules:
        return sys.modules["auto_LiRPA"]
    if installed in PATCHED:
        _patch_before_import()
    module = _import_quietly()
    if installed in PATCHED:
        _patch_after_import(module)
    _silence()
    return module


def _import_quietly() -> ModuleType:
    # Its import configures the root logger and inserts a warnings filter of its own.
    handlers = list(logging.getLogger().handlers)
    with warnings.catch_warnings(record=True):
        module = import_module("auto_LiRPA")
    logging.getLogger().handlers[:] = handlers
    return module


def _installed_version() -> str:
    try:
        installed = version("auto-LiRPA")
    except PackageNotFoundError as error:
        raise UnsupportedError(f"certify: auto-LiRPA is not installed; {INSTALL}") from error
    if installed not in PATCHED + AS_IS:
        known = ", ".join(PATCHED + AS_IS)
        raise UnsupportedError(
            f"certify: auto-LiRPA {installed} has not been tried, only {known}; {INSTALL}"
        )
    return installed


def _patch_before_import() -> None:
    if "numpy.lib.arraysetops" not in sys.modules:
        moved = ModuleType("numpy.lib.arraysetops")
        moved.isin = np.isin  # type: ignore[attr-defined]
        sys.modules["numpy.lib.arraysetops"] = moved
    symbolic = import_module("torch.onnx.symbolic_helper")
    if not hasattr(symbolic, "_set_opset_version"):
        symbolic._set_opset_version = _set_opset_version  # type: ignore[attr-defined]
    if not hasattr(torch._C.Node, "__getitem__"):
        setattr(torch._C.Node, "__getitem__", _attribute)  # noqa: B010


def _set_opset_version(opset: int) -> None:
    import_module(_OPSET).GLOBALS.export_onnx_opset_version = opset


@contextmanager
def first_symbolics() -> Iterator[None]:
    """Let the tracer see torch's oldest ONNX rules only, as release 0.3 finds them at its import.

    A call of `torch.onnx.export`, anybody's, loads the rules of later opsets for good; with those
    auto-LiRPA reads some graphs wrongly.
    """
    registry = import_module(_RULES).registry
    every = registry._registry
    oldest = type(registry)()
    for name, group in every.items():
        for opset in _OLDEST:
            if opset in group._functions:
                oldest.register(name, opset, group._functions[opset])
    registry._registry = oldest._registry
    try:
        yield
    finally:
        registry._registry = every


def _attribute(node: Any, name: str) -> Any:  # noqa: ANN401
    return getattr(node, node.kindOf(name))(name)


def _patch_after_import(module: ModuleType) -> None:
    original = module.BoundedModule._named_members

    def named_members(
        self: nn.Module,
        get_members: Any,  # noqa: ANN401
        prefix: str = "",
        **settings: Any,  # noqa: ANN401
    ) -> Iterator[Any]:
        settings.pop("remove_duplicate", None)
        return original(self, get_members, prefix, **settings)  # type: ignore[no-any-return]

    module.BoundedModule._named_members = named_members


def _silence() -> None:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "auto_LiRPA":
            continue
        vars(module)["print"] = _say_nothing
        if "tqdm" in vars(module):
            vars(module)["tqdm"] = iter
    logging.getLogger("auto_LiRPA").setLevel(logging.CRITICAL)
    logging.getLogger("auto_LiRPA.utils").setLevel(logging.CRITICAL)


def _say_nothing(*words: object, **settings: object) -> None:
    del words, settings
