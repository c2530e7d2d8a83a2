"""Result files as one page of HTML that loads nothing and runs nothing but its own two scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...runtime.benchmark.load.records import LoadBenchmark
from ...runtime.benchmark.records import Benchmark
from ..results.comparison import ComparisonResult
from ..results.evaluation import EvaluationResult
from ..results.files import Result, ResultFile, Results
from ..results.plan import PlanResult
from ..results.row_map import RowMapResult
from ..results.selection import SelectionResult
from ..results.tuning import TuningResult
from .comparison_parts import comparison_parts
from .page_model import Section
from .sections.accuracy import accuracy_section, latency_section
from .sections.closing import failures_section, reading_section, sources_section
from .sections.latency_table import latency_table_section
from .sections.layer_rows import layer_rows_section
from .sections.load import load_section
from .sections.plan import plan_section
from .sections.profiles import profiles_section
from .sections.row_maps import row_maps_section
from .sections.selection import selection_section
from .sections.tuning import tuning_section
from .sections.weights import weights_section
from .series_style import COLOURS, styles

ASSETS = Path(__file__).parent / "assets"
TITLE = "Accuracy and speed of reduced profiles"
ORDER = (
    ComparisonResult,
    SelectionResult,
    EvaluationResult,
    Benchmark,
    LoadBenchmark,
    TuningResult,
    PlanResult,
    RowMapResult,
)
INERT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
"""Characters that could end a script element, as JSON may write them."""


def page(results: Results) -> str:
    """The page: equal files give equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda value: Markup(script_json(value))
    environment.filters["drawing"] = Markup
    scripts = [_lines(get_plotlyjs()), _lines((ASSETS / "page.js").read_text("utf-8"))]
    return environment.get_template("page.html").render(
        title=TITLE,
        policy=_policy(scripts),
        style=Markup((ASSETS / "page.css").read_text("utf-8")),
        scripts=[Markup(script) for script in scripts],
        sources=sources(results),
        sections=list(sections(results)),
    )


def sections(results: Results) -> Iterator[Section]:
    """Those that there is something for."""
    comparisons = results.of(ComparisonResult)
    parts = comparison_parts(comparisons, len(COLOURS))
    style = styles(row.label for part in parts for row in part.rows)
    found: Iterable[Section | None] = (
        accuracy_section(parts, style),
        latency_section(parts, style),
        weights_section(comparisons),
        layer_rows_section(comparisons),
        selection_section(results.of(SelectionResult)),
        profiles_section(results.of(EvaluationResult)),
        latency_table_section(results.of(Benchmark)),
        load_section(results.of(LoadBenchmark)),
        tuning_section(results.of(TuningResult)),
        plan_section(results.of(PlanResult)),
        row_maps_section(results.of(RowMapResult)),
        failures_section(sources(results)),
        reading_section(sources(results)),
        sources_section(sources(results)),
    )
    return (section for section in found if section is not None)


def sources(results: Results) -> tuple[ResultFile[Result], ...]:
    """All files in the order of their sections."""
    return tuple(file for record in ORDER for file in results.files if isinstance(file.found, record))


def script_json(value: Any) -> str:
    """JSON for the inside of a script element: no text in it can end the element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(INERT)


def _policy(scripts: Iterable[str]) -> str:
    """Of the page's content: the two scripts by their hashes, styles, and no network."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _lines(text: str) -> str:
    """Line ends as a browser reads them, which is what it hashes."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
