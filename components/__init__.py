"""The levels, one file each: `norm: scn` in a study is `components/norm/scn.py`."""

if __name__ != "ablate.components":
    raise ImportError(
        f"{__file__} belongs to ablate and is imported as ablate.components: write 'ablate.components...' in place of "
        f"'{__name__}...'. A package of your own with this name is found first if it has an __init__.py."
    )
