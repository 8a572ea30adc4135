"""Draw simulated patients for looking at, and real ones at the same scale beside them.

    python examples/contact_sheet.py [--out docs/images/synthetic_cine.png] [--real real.png]

A row is a patient: three levels at end-diastole and at end-systole, the labels of the middle level
at both moments, the measured k-space (logarithm), and its zero-filled image. `--real` draws as much
as there is of real patients in `RBMED_DATA/cmr`, whose pixels have no recorded size: 1.5 mm is
assumed. That picture holds patients' images: keep it out of a repository.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from PIL import Image

import robustbench_med as rb
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_complex

EXTENT_MM, REAL_MM = 192, 1.5
COUNT = 96  # of colours
COLOURS = ListedColormap([(0, 0, 0, 0), "#e6550d", "#31a354", "#3182bd"])  # none, LV, wall, RV
HEADS = ("ED basal", "ED middle", "ED apical", "ES basal", "ES middle", "ES apical",
         "ED labels", "ES labels", "k-space, R 4", "zero-filled")  # fmt: skip
# Class, sex, vendor, field.
PATIENTS = (
    ("NOR", "F", "A", 1.5), ("NOR", "M", "D", 3.0), ("MINF", "M", "B", 1.5), ("DCM", "F", "C", 3.0),
    ("DCM", "M", "A", 0.55), ("HCM", "F", "D", 1.5), ("HCM", "M", "B", 3.0), ("RV", "F", "C", 0.55),
)  # fmt: skip


class Row(NamedTuple):
    """A patient's name and pictures; labels are `(image, labels)`."""

    name: str
    pictures: list[object]


def simulated(diagnosis: str, sex: str, vendor: str, field: float) -> Row:
    """Find a patient of that class and sex, and image them on that scanner."""
    settings = {"population": "acdc", "vendors": [vendor], "fields": [field], "patients": 60}
    cases = rb.build("cohorts", "synthetic_cine", task="patient", **settings).cases
    wanted = {"diagnosis": diagnosis, "sex": sex}
    number = next(
        index for index in range(len(cases))
        if wanted.items() <= cases.summary(index).attributes.items()
    )  # fmt: skip
    case = cases[number]
    images, labels = case.image[0].numpy(), case.target.numpy()
    levels = three_levels(labels[0])
    kspace = rb.build("cohorts", "synthetic_cine", task="reconstruction", **settings).cases
    name = f"{case.case_id}-ED-z{levels[1]:02}"
    chosen = next(i for i in range(len(kspace)) if kspace.summary(i).case_id == name)
    return Row(f"{diagnosis} {sex}\n{vendor}, {field:g} T",
               stacks(images, labels, levels) + measured(kspace[chosen]))  # fmt: skip


def measured(case: rb.Case) -> list[object]:
    """Logarithm of the k-space that was measured, and the image of it alone."""
    values = to_complex(case.image[None])
    image = adjoint(values, None, case.context["mask"][None])[0].abs()
    return [np.log(values[0, 0].abs().numpy() + 1e-2), image.clamp(0, 1).numpy()]


def three_levels(labels: np.ndarray) -> list[int]:
    """Slices at a sixth, a half and five sixths of those with a left ventricle, base first."""
    inside = np.flatnonzero((labels == 1).any(axis=(1, 2)))
    levels = [int(inside[0] + share * len(inside)) for share in (1 / 6, 1 / 2, 5 / 6)]
    areas = [(labels[level] == 1).sum() for level in levels]
    return levels if areas[0] >= areas[2] else levels[::-1]


def stacks(images: np.ndarray, labels: np.ndarray, levels: Sequence[int]) -> list[object]:
    """Three levels of each moment, then the labels of the middle one at each."""
    shown: list[object] = [phase[level] for phase in images for level in levels]
    middle = levels[1]
    labelled: list[object] = [(images[i, middle], labels[i, middle]) for i in range(len(images))]
    missing = 2 - len(images)
    return shown + [None] * 3 * missing + labelled + [None] * missing


def real(folder: Path) -> list[Row]:
    """Patients of each group, those with both moments first."""
    table = pd.read_csv(folder / "cases.csv").sort_values("phase", kind="stable")
    count = table.groupby("patient_id")["phase"].transform("nunique")
    table = table.assign(moments=count).sort_values("moments", ascending=False, kind="stable")
    chosen = table.groupby("group")["patient_id"].unique().map(lambda ids: ids[:2]).explode()
    rows = []
    for group, patient in sorted(chosen.items()):
        both = table[table["patient_id"] == patient]
        pairs = [(read(folder / r.image), read(folder / r.label)) for r in both.itertuples()]
        images = np.stack([cropped(image / 255, label) for image, label in pairs])
        labels = np.stack([cropped(named(label), label) for _, label in pairs])
        rows.append(Row(f"{group}\nreal", stacks(images, labels, three_levels(labels[0]))))
    return rows


def read(path: Path) -> np.ndarray:
    """A volume `(z, y, x)`, as the heart is usually shown."""
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 0, 1)


def named(label: np.ndarray) -> np.ndarray:
    """Labels by this project's numbers: LV 1, wall 2, RV 3."""
    return np.array([0, 3, 2, 1])[label.astype(int)]


def cropped(volume: np.ndarray, label: np.ndarray) -> np.ndarray:
    """As many mm around the heart's middle as a simulated image shows."""
    half = int(EXTENT_MM / REAL_MM / 2)
    y, x = (int(np.mean(axis)) for axis in np.nonzero(label)[1:])
    padded = np.pad(volume, ((0, 0), (half, half), (half, half)))
    return padded[:, y : y + 2 * half, x : x + 2 * half]


def show(picture: object, axis: plt.Axes) -> None:
    """Draw an image, with its labels where it has any; nothing for what is missing."""
    image, mask = picture if isinstance(picture, tuple) else (picture, None)
    if image is not None:
        axis.imshow(image, cmap="gray", vmin=None if image.min() < 0 else 0)
    if mask is not None:
        axis.imshow(mask, cmap=COLOURS, vmin=0, vmax=3, alpha=0.6, interpolation="nearest")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows in few colours, which keeps the file small."""
    columns = max(len(row.pictures) for row in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(columns, len(rows)), squeeze=False,
        gridspec_kw={"wspace": 0.02, "hspace": 0.02, "left": 0.06, "right": 1, "bottom": 0,
                     "top": 1 - 0.22 / len(rows)},
    )  # fmt: skip
    for row, line in zip(rows, axes, strict=True):
        line[0].text(-0.08, 0.5, row.name, transform=line[0].transAxes, fontsize=7, ha="right",
                     va="center")  # fmt: skip
        for axis in line:
            axis.axis("off")
        for picture, axis in zip(row.pictures, line, strict=False):
            show(picture, axis)
    for axis, head in zip(axes[0], HEADS, strict=False):
        axis.set_title(head, fontsize=7, pad=3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(COUNT, Image.Quantize.MAXCOVERAGE)
    few.save(path, optimize=True)


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/synthetic_cine.png"))
    parser.add_argument("--real", type=Path, help="where to draw real patients, if at all")
    options = parser.parse_args()
    draw([simulated(*patient) for patient in PATIENTS], options.out)
    folder = Path(os.environ.get("RBMED_DATA", "")) / "cmr"
    if options.real and any(folder.glob("*_image.nii.gz")):
        draw(real(folder), options.real)


if __name__ == "__main__":
    main()
