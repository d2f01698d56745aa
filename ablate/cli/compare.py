"""`ablate compare`: which of several VAEs to use for one's pictures."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import Components, Json, ProbeSet, screen, use_own_levels
from ablate.cli.output import emit, print_table
from ablate.cli.report import check_folder, written
from ablate.errors import UsageError, nearest

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
    set_: ProbeSet = None,
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
    from ablate.probing.arguments import find_device, read_named, read_probes
    from ablate.probing.compare import Comparison, arrange, compare
    from ablate.probing.examine import PROBES

    try:
        models = {name: Path(path) for name, path in read_named(vaes, "NAME=CHECKPOINT").items()}
        asked = read_probes(probes.split(",") if probes else PROBES, set_ or ())
        leads = metrics.split(",") if metrics else ()
        wanted = Comparison(models, images, _sides(sizes), asked, leads, find_device(device), frames)
        results = compare(wanted, screen.print)
        table = arrange(wanted, results)
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(" ".join(str(error).split())) from None
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


def _sides(text: str) -> list[int]:
    """The sides of pictures in px, of `256,512`."""
    sides = [word for word in text.split(",") if word]
    for side in sides:
        if not side.isdecimal() or not int(side):
            raise ValueError(f"--sizes '{side}': expected sides in px, such as 256,512")
    return list(map(int, sides))
