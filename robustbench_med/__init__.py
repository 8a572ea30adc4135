"""Robustness, fairness and verification test harness for medical-imaging networks.

    import robustbench_med as rb

Names are imported when first used, so that statistics, reports and the checker of
certificates never load torch.
"""

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "Attack": "probes", "Ball": "threat", "Batch": "cases", "Case": "cases", "CaseRng": "streams",
    "Certifier": "probes", "Cohort": "cases", "Metric": "probes", "Model": "model",
    "Plan": "plan", "Probe": "probes", "Record": "probes", "Run": "runfolder",
    "CaseError": "errors", "EvidenceError": "errors", "IncompleteError": "errors",
    "InputError": "errors", "IntegrityError": "errors", "RobustbenchMedError": "errors",
    "UnknownNameError": "errors", "UnsupportedError": "errors",
    "Shift": "probes", "Task": "cases", "TorchModel": "model", "attacked": "probes",
    "bound": "certify.lirpa", "build": "components", "certified": "probes", "clean": "probes",
    "errors": "errors", "evaluate": "engine.evaluate", "load_model": "models",
    "load_plan": "plan", "names": "components", "run_plan": "running", "shifted": "probes",
}  # fmt: skip

if TYPE_CHECKING:
    from robustbench_med import errors as errors
    from robustbench_med.cases import Batch as Batch
    from robustbench_med.cases import Case as Case
    from robustbench_med.cases import Cohort as Cohort
    from robustbench_med.cases import Task as Task
    from robustbench_med.certify.lirpa import bound as bound
    from robustbench_med.components import build as build
    from robustbench_med.components import names as names
    from robustbench_med.engine.evaluate import evaluate as evaluate
    from robustbench_med.errors import CaseError as CaseError
    from robustbench_med.errors import EvidenceError as EvidenceError
    from robustbench_med.errors import IncompleteError as IncompleteError
    from robustbench_med.errors import InputError as InputError
    from robustbench_med.errors import IntegrityError as IntegrityError
    from robustbench_med.errors import RobustbenchMedError as RobustbenchMedError
    from robustbench_med.errors import UnknownNameError as UnknownNameError
    from robustbench_med.errors import UnsupportedError as UnsupportedError
    from robustbench_med.model import Model as Model
    from robustbench_med.model import TorchModel as TorchModel
    from robustbench_med.models import load_model as load_model
    from robustbench_med.plan import Plan as Plan
    from robustbench_med.plan import load_plan as load_plan
    from robustbench_med.probes import Attack as Attack
    from robustbench_med.probes import Certifier as Certifier
    from robustbench_med.probes import Metric as Metric
    from robustbench_med.probes import Probe as Probe
    from robustbench_med.probes import Record as Record
    from robustbench_med.probes import Shift as Shift
    from robustbench_med.probes import attacked as attacked
    from robustbench_med.probes import certified as certified
    from robustbench_med.probes import clean as clean
    from robustbench_med.probes import shifted as shifted
    from robustbench_med.runfolder import Run as Run
    from robustbench_med.running import run_plan as run_plan
    from robustbench_med.streams import CaseRng as CaseRng
    from robustbench_med.threat import Ball as Ball

__all__ = sorted([*_HOMES])  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return home if name == "errors" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
