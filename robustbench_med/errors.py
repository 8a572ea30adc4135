"""Every error a caller may want to catch, and the exit code that each one means.

RobustbenchMedError
├── InputError        the caller's data, plan or arguments are wrong          (exit 2)
├── UnknownNameError  no component of that name                              (exit 2)
├── UnsupportedError  a valid request that this component cannot honour      (exit 2)
├── EvidenceError     there is too little evidence to answer                 (exit 3)
├── IntegrityError    two results that cannot both be true, or altered files (exit 4)
└── IncompleteError   the run stopped early, or too many cases failed        (exit 5)

CaseError is apart: a component raises it where one case cannot be scored; the engine
records it and goes on. So is PartialWarning: the case has a value, of less than was asked.
"""

from collections.abc import Sequence


class RobustbenchMedError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 2


class InputError(RobustbenchMedError, ValueError):
    """The caller's data, plan or arguments are wrong; fix the input and retry."""


class UnknownNameError(RobustbenchMedError, LookupError):
    """No component of that kind has that name."""


class UnsupportedError(RobustbenchMedError):
    """The request is valid but this component cannot honour it."""


class EvidenceError(RobustbenchMedError):
    """Too few patients or records to answer without guessing."""

    exit_code = 3


class IntegrityError(RobustbenchMedError):
    """Two results contradict each other, or a stored file is not what it was."""

    exit_code = 4


class IncompleteError(RobustbenchMedError):
    """The run ended before its evidence was whole; the same command continues it."""

    exit_code = 5


class CaseError(Exception):
    """One case cannot be scored; recorded as a failure, never the end of a run."""


class PartialWarning(UserWarning):
    """A component did less than was asked, and says what; the engine records it beside the value.

    Attributes:
        case_ids: Whom it concerns.
    """

    def __init__(self, message: str, case_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.case_ids = tuple(case_ids)


def raise_together(problems: Sequence[str]) -> None:
    """Raise one `InputError` that names every problem, a line each; none, do nothing."""
    if problems:
        raise InputError("\n".join(problems))
