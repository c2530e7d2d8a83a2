"""The verdicts as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ...runtime.tables.tables import Section, columns
from .check import Verdict
from .matrices import MatrixFinding

LEGEND = "error: largest absolute difference in any output; output: where it is"
MATRIX_LEGEND = "error: root mean square over a block of weights of one output, in steps"


def verdict_sections(verdicts: Sequence[Verdict], reference: str) -> Iterator[Section]:
    """One table per backend, one row per graph and input."""
    for backend in dict.fromkeys(verdict.backend for verdict in verdicts):
        table = columns("graph", "profile", "input", "output", "error", "", left=4, gap=1)
        mine = [verdict for verdict in verdicts if verdict.backend == backend]
        for verdict in mine:
            finding, passed = verdict.finding, "ok" if verdict.finding.passed else "FAIL"
            words = verdict.graph.kind, verdict.profile or "", verdict.case, finding.output
            table.add_row(*words, _error(finding.error), passed)
        yield Section(f"{backend} against {reference}, tolerance {_tolerance(mine)}", table, LEGEND)


def _tolerance(verdicts: Sequence[Verdict]) -> str:
    """The one of all, or the largest."""
    found = {str(verdict.tolerance) for verdict in verdicts}
    widest = max((verdict.tolerance for verdict in verdicts), key=lambda it: (it.scores, it.rows))
    return f"up to {widest}" if len(found) > 1 else str(widest)


def matrix_sections(findings: Sequence[MatrixFinding]) -> Iterator[Section]:
    """One table, one row for each form and every matrix that is too far from the checkpoint."""
    if not findings:
        return
    table = columns("matrices", "farthest", "output", "error", "", left=2, gap=1)
    for form in dict.fromkeys(found.form for found in findings):
        mine = [found for found in findings if found.form == form]
        worst = max(mine, key=lambda found: (not found.passed, found.error))
        shown = [found for found in mine if not found.passed] or [worst]
        for found in shown:
            words = f"{len(mine)} of {form}", found.name, str(found.output), _error(found.error)
            table.add_row(*words, "ok" if found.passed else "FAIL")
    yield Section("quantised matrices against the checkpoint", table, MATRIX_LEGEND)


def differences(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each graph and backend that differs: where it begins."""
    return [f"{v.graph} on {v.backend}, {v.case}: {v.where}" for v in verdicts if v.where is not None]


def _error(error: float | None) -> str:
    if error is None:
        return "shape"
    return f"{error:.1e}" if math.isfinite(error) else "not finite"
