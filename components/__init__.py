"""The levels, one file each: `norm: scn` in a study is `components/norm/scn.py`."""
