"""The command line: reads arguments, calls one command, returns its exit code.

Exit codes: 0 done or passed · 1 gate failed · 2 the input is wrong · 3 undecided ·
4 integrity broken · 5 run incomplete.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from robustbench_med import __version__
from robustbench_med.errors import RobustbenchMedError

KINDS = (
    "attacks", "objectives", "shifts", "searches", "certifiers", "metrics", "cohorts", "networks",
    "losses", "defences", "sections",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.ERROR, format="rbmed: %(message)s")
    _make_importable(Path.cwd(), *(options.plan.resolve().parent,) if "plan" in options else ())
    command = importlib.import_module(f"robustbench_med.commands.{options.command}")
    try:
        code: int = command.main(options)
    except RobustbenchMedError as error:
        for line in str(error).splitlines():
            print(f"rbmed: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rbmed: interrupted", file=sys.stderr)
        return 5
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return code


def _make_importable(*folders: Path) -> None:
    """Let a plan name `module:function` from here and from beside itself."""
    sys.path[:0] = [str(folder) for folder in folders if str(folder) not in sys.path]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "rbmed",
        description="Robustness, fairness and verification tests for medical-imaging networks.",
        epilog="exit codes: 0 done or passed, 1 gate failed, 2 the input is wrong, "
        "3 undecided, 4 integrity broken, 5 run incomplete",
    )
    parser.add_argument("--version", action="version", version=f"rbmed {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_running(commands)
    _add_reading(commands)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print the result for a machine")
    return parser


def _add_running(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo", help="four tasks on simulated cardiac MR, from k-space to a diagnosis"
    )
    demo.add_argument("--out", type=Path, default=Path("runs"), help="folder for its runs")
    demo.add_argument("--train", action="store_true", help="train all networks from nothing")
    for name, help_text in (
        ("train", "train the plan's network and write its weights and card"),
        ("check", "read a plan and its data, say what would run, compute nothing"),
        ("run", "carry out a plan; again, to continue it"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("plan", type=Path, help="TOML file")
        if name == "run":
            command.add_argument("--out", type=Path, help="run folder (default runs/NAME)")
        if name != "check":
            command.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _add_reading(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    report = commands.add_parser("report", help="write a run's report, summary and JUnit again")
    report.add_argument("run", type=Path, help="run folder")
    gate = commands.add_parser("gate", help="hold a run against a policy: the exit code decides")
    gate.add_argument("run", type=Path, help="run folder")
    gate.add_argument("policy", type=Path, help="TOML file of rules")
    verify = commands.add_parser(
        "verify", help="derive a run's certificates again, without the engine that found them"
    )
    verify.add_argument("path", type=Path, help="run folder, or one certificate (.json)")
    levels = commands.add_parser(
        "levels", help="what severities of the plan's shifts cost its images, and levels that match"
    )
    levels.add_argument("plan", type=Path, help="TOML file")
    levels.add_argument("--cases", type=int, default=64, help="how many of the cohort's")
    levels.add_argument("--sheet", type=Path, help="PNG of the first case under every shift")
    levels.add_argument("--quiet", action="store_true", help="no progress on stderr")
    listing = commands.add_parser("list", help="every component of one kind")
    listing.add_argument("kind", choices=KINDS)
    commands.add_parser("doctor", help="what is installed, what is not, and what would mend it")
