"""Progress on stderr: one line rewritten in a terminal, a line every ten seconds elsewhere."""

import math
import sys
import time

from robustbench_med.engine.local import OnProgress, Progress

WIDTH = 79


def progress_line(*, quiet: bool) -> OnProgress:
    """Return what writes progress; with `quiet`, what writes nothing."""
    if quiet:
        return lambda _progress: None
    return _Line()


class _Line:
    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.last = time.monotonic() if not self.live else 0.0

    def __call__(self, progress: Progress) -> None:
        moment, done = time.monotonic(), progress.done == progress.total
        if moment - self.last < (0.2 if self.live else 10.0) and not done:
            return
        self.last = moment
        text = describe(progress)
        start, end = ("\r\x1b[2K", "\n" if done else "") if self.live else ("", "\n")
        sys.stderr.write(f"{start}{text}{end}")
        sys.stderr.flush()


def describe(progress: Progress) -> str:
    """Say how far, how fast, how long still, and what is at work, in one line."""
    rate = progress.fresh / progress.seconds if progress.seconds else 0.0
    head = f"{progress.done}/{progress.total} {progress.unit}, {rate:.1f}/s, "
    return f"{head}{clock(progress.left)} left, {progress.probe}"[:WIDTH]


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
