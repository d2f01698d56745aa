"""`ablate compare`: which of several VAEs to use for one's pictures."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import Components, Json, screen, use_own_levels
from ablate.cli.output import emit, print_table
from ablate.cli.probe import one_of
from ablate.cli.report import check_folder, written
from ablate.errors import UsageError, nearest
from ablate.slots import registry

FORMS = ("markdown", "latex", "html", "csv")


def compare(
    vaes: Annotated[list[str], typer.Argument(metavar="NAME=CHECKPOINT…", help="VAEs; the first is the reference.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures to compare on (default: our held-out photographs).")
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="A,B", help="Sides of the pictures in px (default: 256, if all strides divide it).")
    ] = "",
    probes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Probes to run (default: as `ablate probe`).")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics with a column (default: the first of each probe).")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="markdown, latex, html or csv.")] = None,
    out: Annotated[Path | None, typer.Option(help="HTML page to write, with the pictures under a divider.")] = None,
    frames: Annotated[int, typer.Option(help="Frames per picture, for video VAEs.", min=1)] = 1,
    device: Annotated[str | None, typer.Option(help="Device (default: cuda if there is one).")] = None,
    components: Components = None,
    as_json: Json = False,
) -> None:
    """Compare VAEs on the same pictures: quality with intervals, paired by picture, cost, and the Pareto front."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
    if form is not None and form not in FORMS:
        raise UsageError(f"--format '{form}'{nearest(form, FORMS)}")
    check_folder(out)
    use_own_levels()
    from ablate.analysis.tables.compared import build
    from ablate.probing.arguments import find_device, read_named
    from ablate.probing.compare import Comparison, compare
    from ablate.probing.examine import PROBES, declared

    # All options are checked before a model is loaded.
    chosen = tuple(probes.split(",")) if probes else PROBES
    for name in chosen:
        one_of("--probes", name, registry.levels("probe"))
    known = declared(chosen)
    leads = metrics.split(",") if metrics else [registry.level("probe", name).metrics[0].name for name in chosen]
    for name in leads:
        one_of("--metrics", name, list(known))
    try:
        models = {name: Path(path) for name, path in read_named(vaes, "NAME=CHECKPOINT").items()}
        if len(models) < 2:
            raise UsageError("a comparison needs two VAEs or more; to probe one: ablate probe CHECKPOINT")
        sides = [_size(text) for text in sizes.split(",") if text]
        wanted = Comparison(models, images, sides, chosen, find_device(device), frames)
        results = compare(wanted, screen.print)
    except (ImportError, OSError) as error:
        raise UsageError(" ".join(str(error).split())) from None
    except ValueError as error:
        raise UsageError(str(error)) from None

    # Metrics that no VAE has, such as those of clips, get no column.
    measured = {name for by_name in results.values() for one in by_name.values() for name in one.metrics}
    if lacking := [name for name in leads if name not in measured]:
        if metrics or leads[0] in lacking:
            raise UsageError(f"no VAE was measured in {', '.join(lacking)} ({known[lacking[0]].meaning})")
        leads = [name for name in leads if name in measured]
    pictures = images.name if images else "our held-out photographs"
    table = build(results, {n: m for n, m in known.items() if n in measured}, leads, pictures, wanted.device.type)
    if out:
        from ablate.analysis.report.compared import write_page

        with written(out):
            write_page(table, results, out)
        screen.print(f"page: {out}", soft_wrap=True)
    if as_json:
        emit(table.json())
    elif form is None:
        print_table(table)
    else:
        print(table.latex() if form == "latex" else getattr(table, form)())  # noqa: T201


def _size(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"--sizes '{text}': expected sides in px, such as 256,512")
    return int(text)
