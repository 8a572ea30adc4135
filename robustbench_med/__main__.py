"""`python -m robustbench_med` is `rbmed`."""

import sys

from robustbench_med.cli import main

sys.exit(main())
