"""The command `ablate probe`: its options, its table, its exit codes."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ablate.cli.options import Components, ProbeSet, fail, screen, use_own_levels
from ablate.cli.output import emit, page, plain_table
from ablate.errors import nearest
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.store.code import fetch
from ablate.store.files import read_json
from ablate.store.folders import Store

if TYPE_CHECKING:
    from ablate.probing.examine import ProbeReport


def probe(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of ablate, a diffusers folder, or a single file of LTX-2 or LDM.")
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures to probe with (default: our held-out photographs).")
    ] = None,
    probes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Probes to run (default: those for artifacts).")
    ] = None,
    set_: ProbeSet = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(metavar="COND", help="Exit with 1 if this holds, e.g. 'grid/const_fold8>0.25'. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a sheet of pictures, DIR/probe.png.")] = None,
    padding_mode: Annotated[
        str | None, typer.Option(help="Pad by zeros, reflect, replicate or circular instead of the model's way.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of weights and activations: fp32, bf16 or fp16.")] = "fp32",
    size: Annotated[
        int | None,
        typer.Option(help="Side of the pictures in px (default: 256, or the next multiple of the stride).", min=1),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(help="Frames per picture, for a video VAE: 1 + a multiple of its time stride.", min=1),
    ] = 1,
    components: Components = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Probe any VAE checkpoint for artifacts, without training. With --fail-if it is a test."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")  # its log would bury our one line
    from ablate.probing.arguments import read_probes
    from ablate.probing.examine import DTYPES, PROBES, Request, declared, examine
    from ablate.released.padding import MODES

    use_code_of(checkpoint)
    chosen = tuple(probes.split(",")) if probes else PROBES
    one_of("--dtype", dtype, list(DTYPES))
    if padding_mode is not None:
        one_of("--padding-mode", padding_mode, list(MODES))
    try:
        settings = read_probes(chosen, set_ or ())
        request = Request(
            checkpoint, images, settings, tuple(fail_if or ()), out, padding_mode, dtype, size, frames,  # type: ignore[arg-type]
        )  # fmt: skip
        answer = examine(request, screen.print)
    except (ValueError, ImportError, OSError) as error:
        fail(" ".join(str(error).split()))
    if as_json:
        found = {"checkpoint": str(checkpoint), "metrics": answer.metrics, "intervals": answer.intervals}
        emit({**found, "failed": [condition.text for condition in answer.failed], **answer.about})
    else:
        print_answer(answer, declared(chosen), page())
    if answer.sheet:
        screen.print(f"sheet: {answer.sheet}", soft_wrap=True)
    for condition in answer.failed:
        value = answer.metrics[condition.metric]
        screen.print(f"failed: {condition.text} ({show(value)})", style="red", soft_wrap=True)
    if answer.failed:
        raise typer.Exit(1)


def one_of(option: str, value: str, valid: list[str]) -> None:
    """Exit with 2 unless the value is valid."""
    if value not in valid:
        fail(f"{option}: unknown '{value}'{nearest(value, valid)}")


def use_code_of(checkpoint: Path) -> None:
    """Put into effect the own code that a checkpoint of a store was trained with; else that of this folder."""
    order = read_json(checkpoint.parent / "settings.json") if checkpoint.is_file() else None
    key = order.get("code") if isinstance(order, dict) else None
    code = fetch(key, Store(checkpoint.absolute().parents[2])) if key else None
    if code:
        registry.use(code)
    else:
        use_own_levels()


def print_answer(answer: "ProbeReport", known: dict[str, Metric], out: Console) -> None:
    """Print the results as text, one metric per line; failed ones are marked."""
    about: dict[str, Any] = answer.about
    padding = f", padding {about['padding_mode']}" if about["padding_mode"] else ""
    clips = f" in clips of {about['frames']} frames" if about["frames"] > 1 else ""
    out.print(
        f"{about['model']}: stride {about['stride']}, {about['latent_channels']} latent channels; {about['images']} "
        f"pictures of {about['size']} px{clips}, {about['dtype']} on {about['device']}{padding}\n",
        soft_wrap=True,
    )
    failed = {condition.metric for condition in answer.failed}
    rows = plain_table()
    rows.add_column("metric", no_wrap=True)
    rows.add_column("value", justify="right", no_wrap=True)
    if answer.intervals:
        rows.add_column("95 % CI", justify="right", no_wrap=True)
    rows.add_column("unit", no_wrap=True)
    rows.add_column("better", no_wrap=True)
    rows.add_column("meaning", no_wrap=True, overflow="ellipsis")
    for name, metric in known.items():
        if name in answer.metrics:
            better = f"near {metric.target:g}" if metric.direction == "target" else metric.direction
            style = "bold red" if name in failed else ""
            value = show(answer.metrics[name], metric.decimals)
            bounds = [show(bound, metric.decimals) for bound in answer.intervals.get(name, ())]
            interval = [Text(f"[{', '.join(bounds)}]" if bounds else "")] if answer.intervals else []
            rows.add_row(
                Text(name, style), Text(value, style), *interval, metric.unit, better.replace("none", ""),
                Text(metric.meaning),
            )  # fmt: skip
    out.print(rows)
    if answer.intervals:
        out.print("\n95 % intervals of means over pictures: what other pictures would give, not another seed.")


def show(value: float, decimals: int = 4) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else str(value)
