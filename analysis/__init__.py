"""Analysis of a study's records: effects with their uncertainty, tables, figures and the report."""

if __name__ != "ablate.analysis":
    raise ImportError(
        f"{__file__} belongs to ablate and is imported as ablate.analysis: write 'ablate.analysis...' in place of "
        f"'{__name__}...'. A package of your own with this name is found first if it has an __init__.py."
    )
