"""`rbmed verify`: what a run proved is derived again from its files, and nothing altered passes."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from robustbench_med.proofs.files import FORMAT, npz
from robustbench_med.runfolder import Run


@pytest.fixture
def finished(study):
    study.edit('use = "ibp"', 'use = "crown"')
    code, _, err = study.run()
    assert code == 0, err
    return study


@pytest.fixture
def folder(finished):
    return finished.folder / "run"


def some(folder):
    """A certificate that proves something."""
    for path in sorted((folder / "certificates").glob("*/*.json")):
        with np.load(path.with_suffix(".npz")) as arrays:
            if len(arrays["claims.limits"]) and (arrays["claims.limits"] > 0).all():
                return path
    raise AssertionError("no case was proved")


def rewritten(path, change):
    """Alter the numbers of a certificate, and the hash that guards them as well."""
    numbers = path.with_suffix(".npz")
    with np.load(numbers) as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    content = npz(arrays)
    numbers.write_bytes(content)
    about = json.loads(path.read_text("utf-8"))
    about["numbers"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(about), "utf-8")


def test_a_finished_run_is_verified_and_says_what_is_proved_and_checked(finished, folder):
    code, out, err = finished.rbmed("verify", folder)
    assert (code, err) == (0, "")
    assert "every file is as the run wrote it" in out
    code, out, _ = finished.rbmed("verify", folder, "--json")
    found = json.loads(out)
    records = Run.open(folder).records
    proved = records[(records["metric"] == "certified") & (records["value"] > 0)]
    checked = records[(records["metric"] == "checked") & (records["value"] > 0)]
    assert found["cases_proved"] == len(proved) > 0
    assert found["proved_and_checked"] == len(checked) == len(proved)
    assert found["certificates"] == (records["metric"] == "checked").sum()


def test_a_certificate_is_checked_alone_without_torch(folder):
    path = some(folder)
    program = (
        "import sys; from robustbench_med.certify.checker import main; "
        f"code = main([{str(path)!r}]); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "holds: keeps its true answer on 1 of the case" in told.stdout


def raised(arrays):
    arrays["claims.limits"] = arrays["claims.limits"] + 0.5


def enlarged(arrays):
    arrays["set.low"], arrays["set.high"] = arrays["set.low"] - 0.3, arrays["set.high"] + 0.3


def shrunk(arrays):
    middle = (arrays["set.low"] + arrays["set.high"]) / 2
    arrays["set.low"] = arrays["set.high"] = middle


def bounds_altered(arrays):
    name = next((n for n in arrays if ".lower" in n), None)
    if name is None:
        arrays["claims.limits"] = arrays["claims.limits"] + 0.5
    else:
        arrays[name] = arrays[name] + 1.0


CHANGES = {
    "limit": (raised, "can be derived"),
    "larger set": (enlarged, "can be derived"),
    "smaller set": (shrunk, "smaller than the ball"),
    "bound": (bounds_altered, "can be derived|low > high|above"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_forged_certificate_is_refused_even_with_its_hash_forged_too(finished, folder, what):
    change, complaint = CHANGES[what]
    path = some(folder)
    rewritten(path, change)
    lines = finished.refused(4, "verify", path)
    assert len(lines) == 1
    assert re.search(complaint, lines[0]), lines
    lines = finished.refused(4, "verify", folder)
    assert any("added, removed or altered" in line for line in lines)


def falsified(folder):
    """A certificate with an image that is answered wrongly, and one that proves something."""
    for path in sorted((folder / "certificates").glob("*/*.json")):
        with np.load(path.with_suffix(".npz")) as arrays:
            if "case.falsifier" in arrays:
                return path
    raise AssertionError("no case was falsified")


def test_what_falsifies_a_case_is_held_against_network_and_set(finished, folder):
    path = falsified(folder)
    assert finished.rbmed("verify", path)[0] == 0

    def outside(arrays):
        arrays["case.falsifier"] = arrays["case.falsifier"] + 0.3

    rewritten(path, outside)
    assert "its falsifier lies outside its set" in finished.refused(4, "verify", path)[0]

    def right(arrays):  # the corner that answers the truth most clearly
        bright = arrays["case.target"] == 1
        arrays["case.falsifier"] = arrays["set.high" if bright else "set.low"]

    rewritten(path, right)
    assert "its falsifier is answered rightly" in finished.refused(4, "verify", path)[0]


def test_damaged_missing_and_foreign_files_are_told(finished, folder):
    path = some(folder)
    numbers, network = path.with_suffix(".npz"), next((folder / "certificates/networks").glob("*"))
    content = numbers.read_bytes()
    numbers.write_bytes(content[: len(content) // 2])
    assert "altered or damaged" in finished.refused(4, "verify", path)[0]
    numbers.write_bytes(content)
    kept = network.read_bytes()
    with np.load(network) as stored:
        arrays = {name: stored[name] for name in stored.files}
    weight = next(name for name in arrays if name.endswith("weight"))
    arrays[weight] = arrays[weight] * 1.001
    network.write_bytes(npz(arrays))
    assert "not the network that the certificate is about" in finished.refused(4, "verify", path)[0]
    network.write_bytes(kept)
    path.unlink()
    lines = finished.refused(4, "verify", folder)
    assert any("its certificate proves 0" in line for line in lines)


def test_an_altered_record_and_wrong_paths_are_told(finished, folder, tmp_path):
    assert "expected a run folder" in finished.refused(2, "verify", tmp_path / "nothing")[0]
    table = folder / "records.parquet"
    table.write_bytes(table.read_bytes() + b"x")
    assert any("altered since the run wrote it" in x for x in finished.refused(4, "verify", folder))


def test_a_run_whose_certificates_are_gone_makes_them_again(finished, folder):
    shutil.rmtree(folder / "certificates")
    shutil.rmtree(folder / "records")
    code, _, err = finished.run()
    assert code == 0, err
    assert finished.rbmed("verify", folder)[0] == 0
    assert FORMAT in some(folder).read_text("utf-8")
