"""One report section per file, the gate, and what writes them down."""

if __name__ != "robustbench_med.reports":
    raise ImportError(
        f"import robustbench_med.reports, not {__name__}: a second copy would be made"
    )
