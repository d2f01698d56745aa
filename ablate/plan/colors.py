"""The colour of each treatment, the same in figures, the report and MLflow."""

import itertools
from collections.abc import Iterable, Iterator

from ablate.plan.treatments import Treatment

BASELINE_COLOR = "#3b3b3b"


COLORS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#0000ff", "#3322aa", "#882200", "#99cc77",
    "#6677ff", "#660066", "#ff99aa", "#ee1144", "#884477", "#0055ff", "#7799ff", "#007733", "#004499", "#55ccdd",
    "#1111cc", "#ee9944", "#ff4477", "#553322", "#4466cc", "#4455dd", "#bb3300", "#662255", "#665555", "#554488",
    "#44bb99", "#6688bb", "#cc9955", "#3399dd", "#bb5599", "#995577", "#ee99cc", "#4444bb", "#bb0055", "#668855",
)  # fmt: skip
"""The first six are those of Okabe and Ito ("Color Universal Design", jfly.uni-koeln.de/color, 2008).

Each further one is as far as possible in CIELAB from the ones before it and from the baseline's, for normal, protanopic
and deuteranopic vision (G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A physiologically-based model for
simulation of color vision deficiency", 2009), among colours that are dark enough on white.
"""


def colors(treatments: Iterable[Treatment]) -> dict[str, str]:
    """Treatment -> its colour, no two the same. The baseline is dark grey; treatments are coloured in their order."""
    others = dict.fromkeys(treatment.label for treatment in treatments if not treatment.is_baseline)
    return {"baseline": BASELINE_COLOR, **dict(zip(others, _palette(), strict=False))}


def _palette() -> Iterator[str]:
    """Distinct colours without end: `COLORS`, then shades of them, lighter and darker in turn."""
    given = {BASELINE_COLOR}
    for step in itertools.count():
        target = 255 if step % 2 else 0
        share = 0.0 if step == 0 else 1 - 0.62 ** ((step + 1) // 2)
        for color in COLORS:
            parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            red, green, blue = (round(part + share * (target - part)) for part in parts)
            code = red << 16 | green << 8 | blue
            while f"#{code:06x}" in given:
                code = (code + 1) % (1 << 24)
            given.add(f"#{code:06x}")
            yield f"#{code:06x}"
