"""Check certificates on their own, with NumPy only: neither torch nor auto-LiRPA is imported.

python -m robustbench_med.certify.checker CERTIFICATE.json...
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from robustbench_med.errors import RobustbenchMedError
from robustbench_med.proofs.certificate_files import load_certificate
from robustbench_med.proofs.network import Network
from robustbench_med.proofs.statement import Statement, proved


def check_file(path: Path, known: dict[str, Network] | None = None) -> Statement:
    """Derive every limit of a certificate again; return what it proves.

    Args:
        path: Of its .json file.
        known: Networks by digest that need not be read again; what is read is added.

    Raises:
        IntegrityError: If a file is missing, damaged or altered, or a claim does not follow.
    """
    return proved(load_certificate(path, known))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check files; return 0 if all hold, 4 if one does not."""
    paths = sys.argv[1:] if arguments is None else arguments
    code, known = 0 if paths else 2, {}  # type: tuple[int, dict[str, Network]]
    for path in paths:
        try:
            said = f"holds: {check_file(Path(path), known).words}"
        except RobustbenchMedError as error:
            said, code = f"refused: {error}", error.exit_code
        sys.stdout.write(f"{path}: {said}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
