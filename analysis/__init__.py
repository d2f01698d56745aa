"""From records to effects, tables and figures."""

if __name__ != "ablate.analysis":
    raise ImportError(f"import it as ablate.analysis, not as {__name__}")
