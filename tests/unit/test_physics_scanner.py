import pytest

from robustbench_med.errors import InputError
from robustbench_med.physics.scanner import (
    FIELDS,
    VENDORS,
    off_resonance_hz,
    signal_to_noise,
    vendor,
)
from robustbench_med.physics.signal import bssfp
from robustbench_med.physics.tissues import TISSUES, tissue

CINE = {"flip_deg": 60.0, "tr_ms": 3.0, "te_ms": 1.5}


def brightness(name, field_t):
    t = tissue(name, field_t)
    return abs(bssfp(t.t1_ms, t.t2_ms, t.density, **CINE).item())


def test_every_tissue_is_known_at_every_field_and_relaxes_as_tissues_do():
    for name, rows in TISSUES.items():
        assert tuple(rows) == FIELDS, name
        times = [tissue(name, field) for field in FIELDS]
        assert all(0 < t.t2_ms < t.t1_ms and 0 < t.density <= 1 for t in times), name
        assert [t.t1_ms for t in times] == sorted(t.t1_ms for t in times), name


@pytest.mark.parametrize(("field_t", "ratio"), [(0.55, 2.47), (1.5, 4.28), (3.0, 4.06)])
def test_contrast_of_blood_to_myocardium_is_the_known_one(field_t, ratio):
    found = brightness("blood", field_t) / brightness("myocardium", field_t)
    assert found == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(
    ("name", "signal"),
    [("myocardium", 0.048), ("blood", 0.207), ("liver", 0.100), ("fat", 0.136),
     ("muscle", 0.054), ("lung", 0.016)],
)  # fmt: skip
def test_brightness_at_one_and_a_half_tesla_is_the_known_one(name, signal):
    assert brightness(name, 1.5) == pytest.approx(signal, abs=0.001)


def test_unknown_tissues_fields_and_scanners_are_refused_in_one_line():
    with pytest.raises(InputError, match="no 'mycardium'; did you mean 'myocardium'"):
        tissue("mycardium", 1.5)
    with pytest.raises(
        InputError, match=r"'fat': field must be one of 0.55, 1.5, 3.0 tesla, got 7"
    ):
        tissue("fat", 7)
    with pytest.raises(InputError, match="vendor: no 'E'; known: A, B, C, D"):
        vendor("E")
    with pytest.raises(InputError, match=r"field: must be one of .* tesla, got 7"):
        off_resonance_hz(7)


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_scanner_is_within_published_cine_protocols(name):
    scanner = vendor(name)
    assert 2.5 <= scanner.tr_ms <= 4.5
    assert 0 < scanner.te_ms <= 0.6 * scanner.tr_ms
    assert 45 <= scanner.flip_deg <= 80
    assert 6 <= scanner.slice_mm <= 10
    assert 8 <= scanner.slice_mm + scanner.gap_mm <= 10
    assert 0 <= scanner.window <= 1
    assert 0.5 < scanner.acquired <= 1


def test_field_acts_in_proportion():
    assert off_resonance_hz(3.0) == pytest.approx(2 * off_resonance_hz(1.5))
    assert off_resonance_hz(0.55) == pytest.approx(off_resonance_hz(1.5) * 0.55 / 1.5)
    assert signal_to_noise(vendor("A"), 1.5) == vendor("A").snr
    assert signal_to_noise(vendor("A"), 3.0) == pytest.approx(2 * vendor("A").snr)


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_no_scanner_bands_over_a_shimmed_heart(name):
    null_hz = 500 / vendor(name).tr_ms
    assert max(map(off_resonance_hz, FIELDS)) < 0.7 * null_hz
