"""The wheel: everything that a checkout has, under one import name."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("robustbench_med", "attacks", "certify", "reports")
KEPT = (".py", ".jinja", ".css", ".js", ".toml", ".typed", ".json", ".safetensors")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    copy = tmp_path_factory.mktemp("checkout") / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    out = copy.parent / "dist"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(copy)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def held_by_checkout():
    found = set()
    for name in FOLDERS:
        prefix = Path() if name == "robustbench_med" else Path("robustbench_med")
        for path in (ROOT / name).rglob("*"):
            if path.suffix in KEPT or path.name == "py.typed":
                found.add((prefix / path.relative_to(ROOT)).as_posix())
    return found


def test_the_wheel_holds_every_module_and_data_file_once(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert len(names) == len(set(names))
    assert set(names) == held_by_checkout()


def test_nothing_generic_reaches_site_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"robustbench_med"}


def test_what_pip_cannot_resolve_is_in_no_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    wanted = [*project["dependencies"], *extras]
    names = {text.split(">")[0].split("=")[0].split("<")[0].lower() for text in wanted}
    assert not names & {"torchattacks", "auto-lirpa", "torchvision", "torchaudio"}
    assert {"appdirs", "pyyaml", "packaging", "tqdm"} <= names


def test_every_constraint_is_an_exact_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 20
    assert all(line.count("==") == 1 for line in pins)
