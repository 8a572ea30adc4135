import math

import numpy as np
import pytest
import torch

from robustbench_med.errors import InputError
from robustbench_med.physics.signal import bssfp, optimal_flip_deg
from robustbench_med.physics.tissues import TISSUES, tissue

CINE = {"flip_deg": 60.0, "tr_ms": 3.0, "te_ms": 1.5}
BLOOD = (1441.0, 290.0, 1.0)


def bloch(t1_ms, t2_ms, sequence, off_resonance_hz, pulses=4000):
    """Transverse magnetisation at the last echo, step by step: hard pulses of alternating sign."""
    flip, tr, te = math.radians(sequence["flip_deg"]), sequence["tr_ms"], sequence["te_ms"]

    def free(m, time):
        transverse = (m[0] + 1j * m[1]) * np.exp(
            -time / t2_ms + 2j * np.pi * off_resonance_hz * time / 1000
        )
        return np.array([transverse.real, transverse.imag, 1 + (m[2] - 1) * np.exp(-time / t1_ms)])

    m = np.array([0.0, 0.0, 1.0])
    for pulse in range(pulses):
        sign = (-1) ** pulse
        cos, sin = math.cos(sign * flip), math.sin(sign * flip)
        # About y: along z becomes along x, so the on-resonance signal is real.
        m = np.array([cos * m[0] + sin * m[2], m[1], -sin * m[0] + cos * m[2]])
        echo, m = free(m, te), free(m, tr)
    return sign * complex(echo[0], echo[1])


def test_golden_values_on_resonance():
    found = bssfp(
        torch.tensor([701.0, 1122.0, 339.0, 187.0]),
        torch.tensor([58.0, 263.0, 66.0, 93.0]),
        torch.tensor([80.0, 95.0, 90.0, 70.0]),
        flip_deg=65, tr_ms=5.17, te_ms=0.7695,
    )  # fmt: skip
    expected = torch.tensor([8.900946, 22.310119, 19.097806, 25.032158])
    torch.testing.assert_close(found.abs(), expected, rtol=1e-5, atol=0)


def test_blood_off_resonance_at_one_and_a_half_tesla():
    offsets = torch.tensor([0.0, 100.0, 150.0])
    found = bssfp(*BLOOD, **CINE, off_resonance_hz=offsets).abs()
    torch.testing.assert_close(found, torch.tensor([0.217, 0.170, 0.054]), rtol=0, atol=5e-4)


@pytest.mark.parametrize("te_ms", [0.0, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("off_resonance_hz", [-240.0, -160.0, -70.0, 0.0, 35.0, 120.0, 166.0])
def test_magnitude_and_phase_are_those_that_pulse_after_pulse_leads_to(off_resonance_hz, te_ms):
    sequence = CINE | {"te_ms": te_ms}
    found = bssfp(*BLOOD, **sequence, off_resonance_hz=off_resonance_hz).item()
    assert found == pytest.approx(bloch(*BLOOD[:2], sequence, off_resonance_hz), abs=1e-6)


@pytest.mark.parametrize("name", sorted(TISSUES))
def test_every_tissue_reaches_the_state_that_pulse_after_pulse_leads_to(name):
    t = tissue(name, 3.0)
    sequence = {"flip_deg": 45.0, "tr_ms": 4.0, "te_ms": 1.2}
    found = bssfp(t.t1_ms, t.t2_ms, 1.0, **sequence, off_resonance_hz=60.0).item()
    assert found == pytest.approx(bloch(t.t1_ms, t.t2_ms, sequence, 60.0), abs=1e-6)


def test_it_is_brightest_on_resonance_and_dark_at_half_the_inverse_repetition_time():
    offsets = torch.linspace(-500 / 3, 500 / 3, 201, dtype=torch.float64)
    bright = bssfp(*BLOOD, **CINE, off_resonance_hz=offsets).abs()
    # Blood's steady state is flat near resonance: allow the centre's neighbours to tie with it.
    assert bright[100] == pytest.approx(float(bright.max()), rel=1e-9)
    assert bright[[0, -1]].max() < 0.01 * bright[100]
    torch.testing.assert_close(bright, bright.flip(0))


def test_the_phase_is_refocused_half_way_between_pulses():
    offsets = torch.linspace(-140, 140, 29)
    phase = bssfp(*BLOOD, **CINE, off_resonance_hz=offsets).angle()
    assert phase.abs().max() < 0.05
    early = bssfp(*BLOOD, **CINE | {"te_ms": 0.5}, off_resonance_hz=offsets).angle()
    torch.testing.assert_close(early, -2 * math.pi * offsets / 1000, rtol=0, atol=0.05)


def test_maps_broadcast_and_nothing_gives_nothing():
    t1 = torch.tensor([[1441.0], [0.0]])
    density = torch.tensor([[1.0], [0.0]])
    flip = torch.tensor([60.0, 40.0, 20.0])
    found = bssfp(t1, t1 / 5, density, flip_deg=flip, tr_ms=3.0, te_ms=0.0)
    assert found.shape == (2, 3)
    assert found.dtype == torch.complex64
    assert bool((found[1] == 0).all())
    assert found[0, 1].real.item() == pytest.approx(
        bssfp(1441.0, 1441 / 5, 1.0, flip_deg=40.0, tr_ms=3.0, te_ms=0.0).real.item(), rel=1e-5
    )


def test_the_optimal_flip_angle_is_where_the_signal_is_largest():
    flips = torch.linspace(1, 120, 12000, dtype=torch.float64)
    signal = bssfp(*BLOOD, flip_deg=flips, tr_ms=0.01, te_ms=0.0).real
    assert flips[signal.argmax()].item() == pytest.approx(optimal_flip_deg(*BLOOD[:2]), abs=0.05)
    assert optimal_flip_deg(1441, 290) == pytest.approx(48, abs=0.5)
    assert optimal_flip_deg(1932, 275) == pytest.approx(41, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((-1.0, 40.0, 1.0), "time must be at least 0, got -1"),
     ((900.0, math.nan, 1.0), "time must be at least 0, got nan"),
     ((900.0, 40.0, -0.5), "density must be at least 0, got -0.5")],
)  # fmt: skip
def test_impossible_tissues_are_refused(arguments, told):
    with pytest.raises(InputError, match=told):
        bssfp(*arguments, **CINE)


def test_an_echo_outside_the_repetition_time_is_refused():
    with pytest.raises(InputError, match="got TE 4 and TR 3"):
        bssfp(*BLOOD, flip_deg=60, tr_ms=3, te_ms=4)
    with pytest.raises(InputError, match="0 < T2 <= T1"):
        optimal_flip_deg(40, 900)
