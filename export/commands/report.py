"""`fastadasp-export report`: result files as one page."""

from __future__ import annotations

from pathlib import Path

import click

from ...profiles.errors import OutputError
from ...runtime.tables.units import size
from .command import StrictCommand
from .output import check_output, write_text
from .parameters import PATH, require

HTML = (".html", ".htm")


@click.command(cls=StrictCommand, short_help="Turn result files into a page of HTML.")
@click.argument("results", type=PATH, nargs=-1, required=True, metavar="RESULTS...")
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE.html", help="The page.")
def report(results: tuple[Path, ...], output: Path) -> None:
    """Put result files into one page of HTML, which needs no network.

    RESULTS are JSON files of bench (of a matrix or under load), eval, compare, select-layer, tune, plan and
    run --map, in any order and number; what is in a file is told by its content.
    """
    require("plotly", "jinja2", extra="report")
    check_output(output, results)
    if output.suffix.lower() not in HTML and (output.is_file() or not output.exists()):
        raise OutputError(f"output {output}: the page is HTML; give {output.with_suffix('.html')}")
    from ...evaluation.report.page import page
    from ...evaluation.results.files import read_results

    text = page(read_results(results))
    write_text(output, text)
    written = size(len(text.encode()))
    click.echo(f"report of {len(results)} file{'s' * (len(results) != 1)} in {output}, {written}", err=True)
