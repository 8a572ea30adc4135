"""One proof method per file."""

if __name__ != "robustbench_med.certify":
    raise ImportError(
        f"import robustbench_med.certify, not {__name__}: a second copy would be made"
    )
