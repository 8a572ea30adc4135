"""A picture of what shifts do: a row for each shift, a column for each severity from 0 to 5."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_med.cases import Batch
from robustbench_med.errors import CaseError, RobustbenchMedError
from robustbench_med.levels import visible
from robustbench_med.probes import MOST_SEVERITY, Shift
from robustbench_med.streams import CaseRng

INCH, TITLE = 1.25, 1.6
DPI = 80


def write_sheet(path: Path, shifts: Mapping[str, Shift], case: Batch, seed: int) -> None:
    """Draw one case under every shift at every whole severity, as PNG.

    Of volumes the middle slice is drawn, of whole cines the first phase; all pictures of a row
    share one scale of grey, that of the case as it is. A picture holds the case's image.

    Args:
        path: Of the file.
        shifts: By name.
        case: A batch of one.
        seed: Of what the shifts draw.
    """
    columns = MOST_SEVERITY + 1
    figure = Figure(figsize=(TITLE + INCH * columns, INCH * len(shifts) + 0.3), dpi=DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shifts), columns, squeeze=False)
    top = float(_shown(case).max()) or 1.0
    for row, (name, shift) in zip(panels, shifts.items(), strict=True):
        for severity, axes in enumerate(row):
            axes.set_axis_off()
            if row is panels[0]:
                axes.set_title(str(severity), fontsize=9)
            try:
                seen = shift(case, float(severity), CaseRng(seed, name, case.case_ids))
            except (RobustbenchMedError, CaseError):
                axes.text(0.5, 0.5, "refused", ha="center", transform=axes.transAxes, fontsize=8)
                continue
            axes.imshow(np.clip(_shown(seen) / top, 0, 1), cmap="gray", vmin=0, vmax=1)
        row[0].text(-0.08, 0.5, name, ha="right", va="center", transform=row[0].transAxes,
                    fontsize=8)  # fmt: skip
    left = TITLE / (TITLE + INCH * columns)
    figure.subplots_adjust(left, 0.005, 0.995, 1 - 0.25 / (INCH * len(shifts) + 0.3), 0.03, 0.03)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _shown(batch: Batch) -> NDArray[np.float32]:
    image = visible(batch)[0].detach().cpu().float()
    while image.ndim > 4:  # phases
        image = image[:, 0]
    if image.ndim == 4:
        image = image[:, image.shape[1] // 2]
    found = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
    return np.asarray(found, np.float32)
