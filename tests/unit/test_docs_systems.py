"""The figures on the page of reference systems are those of the stored benchmarks."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = (ROOT / "docs" / "systems.md").read_text("utf-8")
NETWORKS = json.loads((RESULTS / "networks.json").read_text("utf-8"))
TRANSFER = json.loads((RESULTS / "transfer.json").read_text("utf-8"))
SHOWN = {
    "ssim": "SSIM", "psnr": "PSNR", "psnr_complex": "PSNR", "nmse": "NMSE", "nmse_complex": "NMSE",
    "correct": "correct", "diagnosis": "diagnosis",
}  # fmt: skip


def number(value):
    """Three digits after the point below 1, one above 10."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def estimate(found):
    if found["low"] is None:
        return f"{number(found['value'])} (no interval)"
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"


def row(name, found):
    """One line of the page's table of systems; a dash where there is no gradient or training."""
    quality = "; ".join(
        f"{SHOWN.get(metric, metric.removeprefix('dice_'))} {estimate(held)}"
        for metric, held in found["quality"].items()
        if metric in told(found["quality"])
    )
    both = found["flops"]["both"]
    cells = (
        f"`{name}`", quality, f"{found['parameters']:,}",
        "\N{EN DASH}" if both is None else f"{both / 1e9:.3g}",
        f"{found['cases_per_second']:.3g}", str(found["peak_mib"]),
        "\N{EN DASH}" if found["training_seconds"] is None else f"{found['training_seconds']:.0f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def told(metrics):
    """Those that the page tells: of segmentations, which classes, not how many pixels."""
    by_class = any(metric.startswith("dice_") for metric in metrics)
    skipped = {"correct"} if by_class or "diagnosis" in metrics else set()
    return [m for m in metrics if m.startswith("dice_") or (m in SHOWN and m not in skipped)]


def difference(found):
    return f"{number(found['difference'])} [{number(found['low'])}, {number(found['high'])}]"


def pair(name, found):
    """One line of the page's tables of paired differences: of images by column, else in one."""
    if "ssim" in found:
        measures = ("ssim", next(m for m in found if m.startswith("psnr")),
                    next(m for m in found if m.startswith("nmse")))  # fmt: skip
        cells = [difference(found[metric]) for metric in measures]
    else:
        of_each = (f"{m.removeprefix('dice_')} {difference(found[m])}" for m in told(found))
        cells = ["; ".join(of_each)]
    return f"| {name} | {' | '.join(cells)} |"


def transferred(found):
    """One line of the page's table of real patients."""
    dice = " | ".join(estimate(found[metric]) for metric in ("dice_lv", "dice_myo", "dice_rv"))
    return (
        f"| {found['kind']} | {found['patients']} | {found['draw']} | {found['slices']} | {dice} |"
    )


@pytest.mark.parametrize("name", list(NETWORKS["systems"]))
def test_the_page_prints_what_every_system_reached_and_cost(name):
    assert row(name, NETWORKS["systems"][name]) in PAGE


@pytest.mark.parametrize("name", list(NETWORKS["pairs"]))
def test_the_page_prints_every_paired_difference(name):
    assert pair(name, NETWORKS["pairs"][name]) in PAGE


@pytest.mark.parametrize("place", range(len(TRANSFER["trainings"])))
def test_the_page_prints_every_training_on_real_patients(place):
    assert transferred(TRANSFER["trainings"][place]) in PAGE


@pytest.mark.parametrize("suffix", ["", "@8"])
def test_learned_reconstruction_beats_compressed_sensing_and_that_beats_zero_filling(suffix):
    for better, worse in (
        ("deep_cascade", "total_variation"), ("deep_cascade", "wavelet_l1"),
        ("total_variation", "zero_filled"), ("wavelet_l1", "zero_filled"),
    ):  # fmt: skip
        found = NETWORKS["pairs"][f"{better}{suffix} minus {worse}{suffix}"]
        assert found["ssim"]["low"] > 0
        assert found["psnr_complex"]["low"] > 0
        assert found["nmse_complex"]["high"] < 0
