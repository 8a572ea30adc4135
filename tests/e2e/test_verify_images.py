"""`rbmed verify` on a reconstruction: limits of its error are derived again, and no record lies."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustbench_med.proofs.files import npz
from robustbench_med.runfolder import Run, file_digest

MODULE = """
import torch
import robustbench_med as rb
from robustbench_med.networks.deep_cascade import DeepCascade, Size

FREE = (-float("inf"), float("inf"))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return DeepCascade(Size(1, 2, 2), None)


def cohort(split="test"):
    '''Truths near what the network makes of every second line; the last is far from it.'''
    stream, model = torch.Generator().manual_seed(2), network()
    mask = torch.zeros(1, 4, 4)
    mask[:, ::2] = 1
    cases = []
    for i, far in enumerate((0.05, 0.05, 1.0)):
        image = torch.randn(2, 4, 4, generator=stream) * mask
        with torch.no_grad():
            answer = model(image[None], {"mask": mask[None]})[0]
        target = answer + far * torch.randn(2, 4, 4, generator=stream)
        cases.append(rb.Case(f"c{i}", f"p{i}", image, target, {"mask": mask}))
    return rb.Cohort("tiny", rb.Task("reconstruction"), FREE, cases)


class Claims:
    '''Says that no error is possible.'''

    def __call__(self, model, batch, ball, rng):
        none = torch.zeros(len(batch))
        return {"certified": none + 1, "falsified": none, "undecided": none, "nmse_limit": none}
"""
PLAN = """
name = "tiny"
seed = 3
cohort = { use = "image_proofs:cohort" }
model = { use = "image_proofs:network" }
metrics = [{ use = "nmse" }, { use = "nmse_complex" }]

[[attack]]
use = "pgd"
steps = 5
ball = { norm = "linf", eps = 0.01, support = "mask" }

[[certificate]]
use = "image_error"
limit = 0.1
ball = { norm = "linf", eps = 0.01, support = "mask" }
"""


@pytest.fixture
def finished(study):
    (study.folder / "image_proofs.py").write_text(MODULE, encoding="utf-8")
    study.plan.write_text(PLAN, encoding="utf-8")
    sys.modules.pop("image_proofs", None)
    code, _, err = study.run()
    assert code == 0, err
    yield study
    sys.modules.pop("image_proofs", None)


def paths(study):
    return sorted((study.folder / "run" / "certificates").glob("*/*.json"))


def of(study, case):
    return next(p for p in paths(study) if json.loads(p.read_text("utf-8"))["case_id"] == case)


def values(study, metric, probe="image_error"):
    found = study.opened().records
    kept = found[(found["metric"] == metric) & found["probe"].str.startswith(probe)]
    return kept.set_index("case_id")["value"].to_dict()


def forged(study, metric, case, value):
    """Alter a record, and the hash that guards the table as well."""
    table = study.folder / "run" / "records.parquet"
    stored = pq.read_table(table)
    frame = stored.to_pandas()
    one = (
        (frame["metric"] == metric) & (frame["case_id"] == case) & (frame["kind"] == "certificate")
    )
    assert one.sum() == 1
    frame.loc[one, "value"] = value
    pq.write_table(pa.Table.from_pandas(frame, stored.schema, preserve_index=False), table)
    path = study.folder / "run" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["files"]["records.parquet"] = file_digest(table)
    path.write_text(json.dumps(manifest), "utf-8")


def rewritten(path, change, **about):
    """Alter a certificate, and the hash that guards its numbers as well."""
    numbers = path.with_suffix(".npz")
    with np.load(numbers) as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    content = npz(arrays)
    numbers.write_bytes(content)
    told = json.loads(path.read_text("utf-8")) | about
    told["numbers"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(told), "utf-8")


def test_a_reconstruction_leaves_certificates_that_hold(finished):
    assert len(paths(finished)) == 3
    assert len(list((finished.folder / "run/certificates/networks").glob("*"))) == 1
    assert (
        values(finished, "checked") == values(finished, "certified") == {"c0": 1, "c1": 1, "c2": 0}
    )
    assert values(finished, "falsified") == {"c0": 0, "c1": 0, "c2": 1}
    limits, reached = values(finished, "nmse_limit"), values(finished, "nmse_complex", "pgd")
    assert all(
        values(finished, "nmse_complex", "clean")[c] < reached[c] <= limits[c] for c in limits
    )
    code, out, err = finished.rbmed("verify", finished.folder / "run")
    assert (code, err) == (0, "")
    assert "3 certificates derived again: all hold" in out
    assert "of 2 answers with something proved: 2 proved and checked" in out
    code, out, _ = finished.rbmed("verify", of(finished, "c0"), "--json")
    told = json.loads(out)
    assert (code, told["share"], told["nmse_limit"]) == (0, 1, limits["c0"])
    program = (
        "import sys; from robustbench_med.certify.checker import main; "
        f"code = main([{str(of(finished, 'c0'))!r}]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    checked = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"holds: its NMSE stays at most {limits['c0']:.6g}" in checked.stdout
    assert "keeps to the limit 0.1" in checked.stdout


def test_a_forged_record_or_certificate_is_refused_with_both_numbers(finished):
    run = finished.folder / "run"
    true = values(finished, "nmse_limit")["c1"]
    forged(finished, "nmse_limit", "c1", 0.5 * true)
    (line,) = finished.refused(4, "verify", run)
    assert f"proved nmse_limit = {0.5 * true:.9g} for case 'c1'" in line
    assert f"its certificate proves {true:.9g}" in line
    forged(finished, "nmse_limit", "c1", true)
    assert finished.rbmed("verify", run)[0] == 0

    path, kept = of(finished, "c1"), {}
    for each in (path, path.with_suffix(".npz")):
        kept[each] = each.read_bytes()
    rewritten(path, lambda arrays: None, nmse_limit=0.5 * true)
    assert "says that nmse_limit is" in finished.refused(4, "verify", path)[0]

    def flattened(arrays):
        arrays["linear.matrix"] = 0.5 * arrays["linear.matrix"]

    for each, content in kept.items():
        each.write_bytes(content)
    rewritten(path, flattened)
    lines = finished.refused(4, "verify", run)
    assert any("can be derived" in line for line in lines)
    assert any("its certificate proves inf" in line for line in lines)
    assert Run.open(run).manifest["state"] == "complete"


def test_an_error_above_the_proved_one_ends_the_run_with_both_numbers(study):
    (study.folder / "image_proofs.py").write_text(MODULE, encoding="utf-8")
    study.plan.write_text(
        PLAN.replace('use = "image_error"\nlimit = 0.1', 'use = "image_proofs:Claims"'), "utf-8"
    )
    lines = study.refused_run(4)
    assert study.opened().manifest["state"] == "contradiction"
    assert len(lines) == 3 * 2 * 2  # cases, clean and attacked, two metrics
    assert all("proved an NMSE of at most 0, but" in line for line in lines)
    reached = values(study, "nmse_complex", "pgd")["c0"]
    assert any(f"reached {reached:.6g} (nmse_complex)" in line for line in lines)
    sys.modules.pop("image_proofs", None)
