"""What an acceptance prints: its verdicts, and the figures that people look for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .records import FAILED, StageResult

UNITS = {"prefill_ms": 1e3, "decode_ms": 1e3, "rtf": 1, "tokens_per_second": 1}
OF_PAPER = {
    "prefill_ms": "prefill_s",
    "decode_ms": "decode_s",
    "rtf": "rtf",
    "tokens_per_second": "tokens_per_second",
}


def show(results: Sequence[StageResult]) -> None:
    """All tables that have rows, then one line."""
    console = Console(width=120)
    for table in (_times(results), _latency(results), _verdicts(results)):
        if table.row_count:
            console.print(table)
    console.print(summary(results))


def summary(results: Sequence[StageResult]) -> str:
    """One line: what failed, else that nothing did, and how many stages proved nothing."""
    failed = [result.stage for result in results if result.status == FAILED]
    begin = f"failed: {', '.join(failed)}" if failed else "nothing failed"
    statuses = [result.status for result in results if result.status != FAILED]
    counts = ((statuses.count(status), status) for status in dict.fromkeys(statuses))
    return "; ".join([begin, *(f"{count} stage{'s' * (count > 1)} {status}" for count, status in counts)])


def _verdicts(results: Sequence[StageResult]) -> Table:
    table = Table("stage", "status", "checks", "seconds", "why", title="Acceptance")
    for result in results:
        table.add_row(
            result.stage, result.status, str(len(result.checks)), f"{result.seconds:.0f}", result.why or ""
        )
    return table


def _times(results: Sequence[StageResult]) -> Table:
    heads = "kernel", "µs", "GB/s", "of a copy", "TFLOP/s", "of a bf16 product"
    table = Table(*heads, title="Kernels, medians")
    for figures, name in _figures(results, "microseconds", "bytes_per_second"):
        shares = [
            f"{100 * figures[key]:.0f} %" if key in figures else ""
            for key in ("share_of_copy", "share_of_bf16_product")
        ]
        speeds = f"{figures['bytes_per_second'] / 1e9:.0f}", f"{figures['flops_per_second'] / 1e12:.1f}"
        table.add_row(
            name.removeprefix("time of "),
            f"{figures['microseconds']:.1f}",
            speeds[0],
            shares[0],
            speeds[1],
            shares[1],
        )
    return table


def _latency(results: Sequence[StageResult]) -> Table:
    heads = "model, beams, audio, profile", "prefill s", "decode s", "RTF", "tokens/s"
    table = Table(*heads, title="Latency, medians; in brackets the paper's, on one A100")
    for figures, name in _figures(results, "prefill_ms", "decode_ms"):
        paper = figures.get("paper") or {}
        cells = []
        for key, unit in UNITS.items():
            own = "" if figures[key] is None else f"{figures[key] / unit:.3g}"
            cells.append(f"{own} ({paper[OF_PAPER[key]]:g})" if paper else own)
        table.add_row(name, *cells)
    return table


def _figures(results: Sequence[StageResult], *keys: str) -> list[tuple[dict[str, Any], str]]:
    """Figures and name of every check that has them all."""
    checks = [check for result in results for check in result.checks]
    return [
        (dict(check.figures), check.name) for check in checks if all(key in check.figures for key in keys)
    ]
