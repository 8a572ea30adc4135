"""`rbmed doctor`: what is installed, what is not, and the command that would mend it."""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        needed: Without it nothing runs; otherwise only what `what` says.
        mend: Command that brings it; empty where nothing is to be done.
    """

    what: str
    state: str
    well: bool
    needed: bool
    mend: str = ""


def main(options: argparse.Namespace) -> int:
    """Print every finding; 2 if something that everything needs is not well."""
    findings = [look() for look in LOOKS]
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = "ok  " if finding.well else "MEND" if finding.needed else "lack"
            print(f"{mark} {finding.what:<13} {finding.state}")
            if finding.mend:
                print(f"{'':<18} -> {finding.mend}")
    return 2 if any(finding.needed and not finding.well for finding in findings) else 0


def _python() -> Finding:
    found = platform.python_version()
    well = sys.version_info >= (3, 11)
    return Finding("python", found, well, needed=True, mend="" if well else "use Python 3.11+")


def _torch() -> Finding:
    mend = "pip install 'torch>=2.11,<2.14'"
    try:
        import torch
    except ImportError as error:
        return Finding("torch", f"cannot be imported: {error}", well=False, needed=True, mend=mend)
    series = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    tested = (2, 11) <= series < (2, 14)
    state = torch.__version__ + ("" if tested else ": not tested; 2.11 to 2.13 are")
    return Finding("torch", state, tested, needed=True, mend="" if tested else mend)


def _cuda() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("cuda", "unknown without torch", well=False, needed=False)
    if torch.cuda.is_available():
        return Finding("cuda", torch.cuda.get_device_name(), well=True, needed=False)
    if torch.version.cuda is None:
        return Finding(
            "cuda", "this torch is built for the CPU only; everything runs on it, slower",
            well=True, needed=False,
        )  # fmt: skip
    return Finding(
        "cuda", f"torch is built for CUDA {torch.version.cuda} but sees no device",
        well=False, needed=False, mend="nvidia-smi   # is there a driver, does it list a device?",
    )  # fmt: skip


def _torchattacks() -> Finding:
    mend = "pip install --no-deps torchattacks==3.5.1"
    try:
        found = version("torchattacks")
    except PackageNotFoundError:
        return Finding("torchattacks", "not installed: no attack 'torchattacks'", well=False,
                       needed=False, mend=mend)  # fmt: skip
    well = found == "3.5.1"
    return Finding("torchattacks", found, well, needed=False, mend="" if well else mend)


def _auto_lirpa() -> Finding:
    mend = "pip install --no-deps auto-LiRPA==0.3"
    try:
        import torch

        from robustbench_med.certify.lirpa import bound
        from robustbench_med.errors import RobustbenchMedError
    except ImportError as error:
        return Finding("auto-LiRPA", f"unknown: {error}", well=False, needed=False)
    try:
        low = torch.zeros(1, 2)
        bound(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), low, low + 1)
    except RobustbenchMedError as error:
        state = f"no certificates: {str(error).splitlines()[0]}"
        return Finding("auto-LiRPA", state, well=False, needed=False, mend=mend)
    return Finding("auto-LiRPA", f"{version('auto-LiRPA')}, its shim works: a bound was computed",
                   well=True, needed=False)  # fmt: skip


def _optional(package: str, purpose: str) -> Callable[[], Finding]:
    def look() -> Finding:
        try:
            return Finding(package, version(package), well=True, needed=False)
        except PackageNotFoundError:
            return Finding(package, f"not installed: no {purpose}", well=False, needed=False,
                           mend=f"pip install {package}")  # fmt: skip

    return look


LOOKS: tuple[Callable[[], Finding], ...] = (
    _python, _torch, _cuda, _torchattacks, _auto_lirpa,
    _optional("onnxruntime", "ONNX models"),
)  # fmt: skip
