"""What was proved of an image's error is held against what attacks reach in the same ball."""

import pandas as pd
import pytest

from robustbench_med.certify.image_error import ImageError
from robustbench_med.components import build
from robustbench_med.engine.moving_reference import moving
from robustbench_med.probes import attacked, certified, clean
from robustbench_med.statistics.contradiction import contradictions
from robustbench_med.threat import Ball

BALL, OTHER = Ball("linf", 0.01), Ball("linf", 0.02)
METRICS = {
    "nmse": build("metrics", "nmse"),
    "mine": build("metrics", "nmse_complex"),
    "psnr": build("metrics", "psnr"),
}
PGD = build("attacks", "pgd")
PROBES = {
    "clean": clean(METRICS),
    "proof": certified("image_error", ImageError(), BALL),
    "same": attacked("pgd", PGD, BALL, METRICS),
    "other": attacked("pgd", PGD, OTHER, METRICS),
    "moving": moving("pgd", PGD, BALL, METRICS),
    "false name": attacked("odd", PGD, BALL, {"nmse": build("metrics", "psnr")}),
    "smoothing": certified("smoothing_of_mine", ImageError(), BALL),
}


def manifest(**changes):
    found = [
        {
            "name": probe.name, "settings": probe.spec["measure"],
            "ball": str(probe.measure.ball) if hasattr(probe.measure, "ball") else None, **changes,
        }
        for probe in PROBES.values()
    ]  # fmt: skip
    return {"probes": found}


def lines(*rows, manifest_=None):
    columns = ("case_id", "probe", "kind", "metric", "value")
    made = [(c, PROBES[p].name, PROBES[p].kind, m, v) for c, p, m, v in rows]
    return contradictions(pd.DataFrame(made, columns=columns), manifest_ or manifest())


PROVED = ("a", "proof", "nmse_limit", 0.04)


@pytest.mark.parametrize(
    ("probe", "metric"), [("same", "nmse"), ("same", "mine"), ("clean", "nmse"), ("clean", "mine")]
)
def test_a_larger_error_in_the_ball_is_told_with_both_numbers(probe, metric):
    (line,) = lines(PROVED, ("a", probe, metric, 0.0401))
    assert line == (
        "case 'a': image_error[linf<=0.01] proved an NMSE of at most 0.04, but "
        f"{PROBES[probe].name} reached 0.0401 ({metric})"
    )
    assert lines(PROVED, ("a", probe, metric, 0.04), ("b", probe, metric, 1.0)) == []


@pytest.mark.parametrize(
    ("probe", "metric"),
    [
        ("other", "nmse"), ("moving", "nmse"), ("moving", "mine"), ("false name", "nmse"),
        ("same", "psnr"),
    ],
)  # fmt: skip
def test_another_ball_reference_or_measure_contradicts_nothing(probe, metric):
    assert lines(PROVED, ("a", probe, metric, 0.9)) == []


def test_rounding_of_float32_contradicts_nothing():
    # An image that moves by 1e-6 of the reference's norm moves the root of the NMSE by as much.
    for limit in (1e-8, 1e-4, 0.04, 2.0):
        proof = ("a", "proof", "nmse_limit", limit)
        near, far = ((limit**0.5 + by) ** 2 for by in (1e-6, 2e-5))
        assert lines(proof, ("a", "same", "nmse", near)) == []
        assert len(lines(proof, ("a", "same", "nmse", far))) == 1


def test_what_is_missing_unknown_or_no_proof_contradicts_nothing():
    nan = float("nan")
    assert lines(("a", "proof", "nmse_limit", nan), ("a", "same", "nmse", 1.0)) == []
    assert lines(PROVED, ("a", "same", "nmse", nan)) == []
    assert lines(("a", "smoothing", "nmse_limit", 0.04), ("a", "same", "nmse", 1.0)) == []
    assert lines(PROVED, ("a", "same", "nmse", 1.0), manifest_=manifest(settings=None)) == []
    assert lines(PROVED) == lines() == []


def test_answers_are_held_against_each_other_as_before():
    (line,) = lines(
        ("a", "proof", "certified", 1.0),
        ("a", "same", "correct", 0.0),
        ("a", "other", "correct", 0.0),
    )
    assert line == (
        "case 'a': image_error[linf<=0.01] proved 1, but pgd[linf<=0.01] left 0 correct"
    )
