"""`rbmed report RUN`: write the reports of a finished run again."""

import argparse
import json

from robustbench_med.reports.writer import write_reports
from robustbench_med.runfolder import Run


def main(options: argparse.Namespace) -> int:
    """Write the files and name them."""
    written = [str(path) for path in write_reports(Run.open(options.run))]
    print(json.dumps({"written": written}) if options.json else "\n".join(written))
    return 0
