"""Progress of a training on stderr: a line an epoch, and within long ones how far it is."""

import sys
import time
from collections.abc import Mapping

from robustbench_med.commands.progress import clock
from robustbench_med.training.steps import Progress

LIVE_S, PLAIN_S = 0.2, 10.0


class TrainingLine:
    """Writes what a training calls it with."""

    def __init__(self, epochs: int) -> None:
        """Begin a training of at most `epochs`."""
        self.epochs = epochs
        self.live = sys.stderr.isatty()
        self.told = self.started = time.monotonic()
        self.at = 0

    def step(self, progress: Progress) -> None:
        """Say how far the epoch is: rewritten in a terminal, every ten seconds elsewhere."""
        moment = time.monotonic()
        if progress.epoch != self.at:
            self.at, self.started, self.told = progress.epoch, moment, moment
        if moment - self.told < (LIVE_S if self.live else PLAIN_S) or progress.cases == progress.of:
            return
        self.told = moment
        # The first step of an epoch is over when the clock starts, so the rate is a bit high.
        left = (moment - self.started) * (progress.of / progress.cases - 1)
        self._write(
            f"epoch {progress.epoch}/{self.epochs}, {progress.cases}/{progress.of} cases, "
            f"{clock(left)} left of it",
            stays=not self.live,
        )

    def epoch(self, row: Mapping[str, float]) -> None:
        """Say what came of an epoch, and how long all the others would take."""
        held_out = f", validation {row['validation_loss']:.4g}" if "validation_loss" in row else ""
        stops = "best_epoch" in row
        best = f" (lowest: epoch {row['best_epoch']:.0f})" if stops else ""
        left = (self.epochs - row["epoch"]) * row["seconds"]
        self._write(
            f"epoch {row['epoch']:.0f}/{self.epochs}, loss {row['loss']:.4g}{held_out}{best}, "
            f"{'at most ' if stops else ''}{clock(left)} left",
            stays=True,
        )

    def _write(self, text: str, *, stays: bool) -> None:
        start, end = ("\r\x1b[2K" if self.live else ""), ("\n" if stays else "")
        sys.stderr.write(f"{start}{text}{end}")
        sys.stderr.flush()
