"""The three tables of a run that rest on its records: estimates, gaps, and what was searched."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from robustbench_med.statistics.gaps import GAPS, gaps_of
from robustbench_med.statistics.search import SEARCH, search_of
from robustbench_med.statistics.study import findings_of, open_study
from robustbench_med.statistics.table import estimates_of, to_arrow


def tables_of(
    records: pd.DataFrame,
    cases: pd.DataFrame,
    failures: pd.DataFrame,
    manifest: Mapping[str, Any],
) -> dict[str, pa.Table]:
    """Make every table that the reports print, by the name of its file.

    Arguments as for `open_study`; the manifest may name attributes to `explore`.

    Raises:
        InputError: If a subgroup is no attribute, or the tables do not belong together.
        IntegrityError: If a case has two values of one metric under one probe.
    """
    study = open_study(records, cases, failures, manifest)
    findings = findings_of(study, manifest["subgroups"])
    return {
        "estimates.parquet": to_arrow(estimates_of(study, findings)),
        "gaps.parquet": to_arrow(gaps_of(study, findings, int(manifest["seed"])), GAPS),
        "search.parquet": to_arrow(search_of(study, manifest.get("explore", [])), SEARCH),
    }
