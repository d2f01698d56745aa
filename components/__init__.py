"""The levels, one file each: `norm: scn` in a study is `components/norm/scn.py`."""

if __name__ != "ablate.components":
    raise ImportError(f"import it as ablate.components, not as {__name__}")
