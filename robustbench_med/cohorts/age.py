"""Ages as DICOM writes them."""

import re

# A unit in years, the year taken as 365.25 days.
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}

_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)


def years(text: str) -> float | None:
    """Read `058Y`, `006M`, `012W` or `003D` as years; None for any other text.

    Source: DICOM PS3.5 section 6.2, value representation AS. The standard leaves the length of a
    month and of a year open; chosen: 12 months, or 365.25 days, a year.
    """
    found = _AGE.fullmatch(text)
    return int(found[1]) * YEARS[found[2]] if found else None
