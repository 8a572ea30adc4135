"""The layers, the sizes and the public names of the package, as tests."""

import ast
import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import robustbench_med

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "robustbench_med"
LAYERS = (
    {"errors", "streams", "components", "clinical", "runfolder", "shipped", "proofs"},
    {"cases", "model", "threat", "projections", "soft_measures", "physics"},
    {"probes", "searching", "networks"},
    {"attacks", "certify", "shifts", "metrics", "cohorts", "overlap", "training"},
    {"engine"},
    {"statistics"},
    {"reports"},
    {"plan", "plan_fields", "plan_splits", "plan_metrics", "plan_train", "plan_validity",
     "panels", "questions", "survey", "levels",
     "sizing", "manifest", "ledger", "operating", "preparing", "running", "models", "onnx_model",
     "commands", "demo", "cli", "__main__"},
)  # fmt: skip
MAY_ALSO = {"training": {"attacks", "certify"}}
ENGINE_SEES = {0, 1, 2}
NO_TORCH = {"errors", "components", "clinical", "runfolder", "proofs", "statistics", "reports"}
ONLY_IN = {
    "auto_LiRPA": "robustbench_med/certify/",
    "torchattacks": "robustbench_med/attacks/torchattacks_bridge.py",
    "onnxruntime": "robustbench_med/onnx_model.py",
    "ray": "robustbench_med/engine/ray.py",
    "cma": "robustbench_med/attacks/evolution.py",
}
KINDS = {
    "attacks": "attacks", "objectives": "attacks", "searches": "attacks", "shifts": "shifts",
    "certifiers": "certify", "metrics": "metrics",
    "cohorts": "cohorts", "networks": "networks", "losses": "training", "defences": "training",
    "sections": "reports",
}  # fmt: skip
SOURCES = sorted(PACKAGE.rglob("*.py", recurse_symlinks=True)) if sys.version_info >= (3, 13) else (
    sorted({*PACKAGE.rglob("*.py")} | {
        path for name in ("attacks", "certify", "reports") for path in (PACKAGE / name).glob("*.py")
    })
)  # fmt: skip


def home(module: str) -> str:
    """First part of a module's name below the package."""
    return module.removeprefix("robustbench_med.").split(".")[0]


@cache
def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, at_run_time: bool = True) -> set[str]:
    tree = tree_of(path)
    hidden = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if at_run_time and id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "robustbench_med":
                found |= {f"robustbench_med.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def allowed(user: str, used: str) -> bool:
    if user == used or used in MAY_ALSO.get(user, set()):
        return True
    if user == "engine":
        return layer(used) in ENGINE_SEES
    if user in ("statistics", "reports"):
        return layer(used) == 0 or (user == "reports" and used == "statistics")
    return layer(used) < layer(user) or (layer(user) == layer(used) != 3)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_layers_below_it(path):
    if path == PACKAGE / "__init__.py":
        pytest.skip("the package's own __init__ resolves names lazily; tested below")
    user = name_of(path)
    used = {home(m) for m in imports(path) if m.startswith("robustbench_med.")}
    if (user, path.name) == ("certify", "checker.py"):
        user = "reports"
    wrong = {name for name in used if name != "__version__" and not allowed(user, name)}
    assert not wrong, f"{path} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_and_its_functions_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name} is too long"


@pytest.mark.parametrize(("library", "only"), ONLY_IN.items())
def test_a_third_party_engine_is_imported_in_one_place(library, only):
    users = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if any(name.split(".")[0] == library for name in imports(path))
    ]
    assert all(user.startswith(only) for user in users)


@pytest.mark.parametrize(
    "module",
    ["runfolder", "components", "statistics.table", "reports.writer", "reports.gate"],
)
def test_reading_results_never_loads_torch(module):
    code = f"import sys, robustbench_med.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_imported_and_no_more_are_promised():
    assert set(robustbench_med.__all__) == set(dir(robustbench_med))
    for name in robustbench_med.__all__:
        assert getattr(robustbench_med, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = robustbench_med.nothing


def test_every_component_that_is_declared_can_be_loaded_from_its_own_folder():
    for kind, folder in KINDS.items():
        for entry in entry_points(group=f"robustbench_med.{kind}"):
            if entry.value.startswith("robustbench_med."):
                assert entry.value.startswith(f"robustbench_med.{folder}."), entry
                assert callable(entry.load())


@pytest.mark.parametrize("folder", ["attacks", "certify", "reports"])
def test_a_root_folder_is_one_package_with_the_rest(folder):
    assert (PACKAGE / folder).is_symlink()
    assert (PACKAGE / folder).readlink() == Path("..") / folder
    code = f"import {folder}"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert "import robustbench_med." in done.stderr
