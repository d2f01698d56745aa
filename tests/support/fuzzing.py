"""Changed inputs: what hypothesis draws of them, how many, and how much memory they may take.

The number of cases of all fuzz tests together is `ABLATE_FUZZ_CASES` (500 by default). They are the same in every run.
"""

import copy
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("ABLATE_FUZZ_CASES", "500"))

SLOWEST_S = 60.0
"""Seconds of CPU time after which an input is taken to be too slow."""

Steps = tuple[str | int, ...]

PLAIN_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, 0.5, 7, 1000, 2**31, 2**63, 10**30, -(10**30), 1e308, 1e-320, -0.0,
    float("inf"), float("-inf"), float("nan"), "", " ", "x", "1", "1.0", "true", "../x", "/etc/passwd", "~", "a.b",
    "a:b", "os:getcwd", "NUL", "x" * 5000, "\u202e", "\x00", "\ud800", "é", "[/red]", "{x}", "%s", "$x", "=1",
    "scn", "group", [], {}, [[]], [{}], [None], [1, 1], [1, 1.0], ["x", "x"], {"": 1}, {"level": None},
    {"level": "x"}, {"level": 3}, {"low": 0, "high": 1}, {"low": 1, "high": 0, "log": True}, {"from": 2, "to": 4},
    {"weight": "x"}, {"x": {"y": {"z": 1}}},
]  # fmt: skip
"""Values that somebody may write, of all types, and some that nobody would."""


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


VALUES = [*PLAIN_VALUES, deep(40), deep(200)]


def fuzzed(share: float, *strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on its share of the cases, always the same ones; it fails for a slow case."""
    from hypothesis import given

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def timed(*drawn: Any, **named: Any) -> None:
            begun = time.process_time()
            test(*drawn, **named)
            taken = time.process_time() - begun
            assert taken < SLOWEST_S, f"{taken:.0f} s"

        once = settings(
            max_examples=max(1, round(share * CASES)), derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],  # shrinking would take hours
        )  # fmt: skip
        return once(given(*strategies)(timed))

    return decorate


def places(value: Any, path: Steps = ()) -> Iterator[Steps]:
    """The paths of all values in plain data, the root's first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def at(value: Any, path: Steps) -> Any:
    """The value at a path."""
    for key in path:
        value = value[key]
    return value


CHANGES = ("replace", "delete", "rename", "duplicate", "wrap", "move", "grow", "type")


@st.composite
def changed(draw: Any, originals: Sequence[Any]) -> Any:
    """One of these values, all plain data, with one to four changes of its keys, values, types and nesting."""
    data = copy.deepcopy(draw(st.sampled_from(list(originals))))
    for _ in range(draw(st.integers(1, 4))):
        data = _change(draw, data, originals)
    return data


def _change(draw: Any, data: Any, originals: Sequence[Any]) -> Any:
    """The data with one change."""
    found = [path for path in places(data) if path]
    if not found:
        return draw(st.sampled_from(VALUES))
    path = draw(st.sampled_from(found))
    holder = at(data, path[:-1])
    key = path[-1]
    old = holder[key]
    match draw(st.sampled_from(CHANGES)):
        case "replace":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        case "delete":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            others = [str(other[-1]) for other in found if isinstance(other[-1], str)]
            holder[draw(st.sampled_from([*others, "", "x", "../x", "data.crop", "base", "a:b", "é"]))] = holder.pop(key)
        case "duplicate" if isinstance(holder, list):
            holder.append(copy.deepcopy(old))
        case "wrap":
            holder[key] = draw(st.sampled_from([[old], {"level": old}, {"x": old}, [old, old], {"weight": old}]))
        case "move":  # a value from anywhere in any of the originals
            other = draw(st.sampled_from(list(originals)))
            holder[key] = copy.deepcopy(at(other, draw(st.sampled_from(list(places(other))))))
        case "grow" if isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        case _:
            holder[key] = draw(st.sampled_from([str(old), [old], 3, 0.5, None, True, {}]))
    return data


WORDS = (
    "level", "weight", "seeds", "where", "design", "fraction", "search", "tuning", "nuisance", "pruning", "scales",
    "treatments", "interest", "paper", "norm", "loss.kl", "data.crop", "norm.groups", "model.channels", "steps",
    "train", "command", "settings", "path", "from", "to", "x",
)  # fmt: skip
"""Keys of a study, and some that it does not have."""
