"""Analysis of a study's records: effects with their uncertainty, tables, figures and the report."""

if __name__ != "ablate.analysis":
    raise ImportError(f"import it as ablate.analysis, not as {__name__}")
