"""What a benchmark says beside its tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastadasp.runtime.benchmark.records import Benchmark, BenchmarkProtocol
from fastadasp.runtime.environment import environment
from fastadasp.runtime.tables.benchmark import benchmark_sections


@pytest.mark.parametrize(
    ("load", "is_told"), [((4.2, 1.0, 1.0), True), ((0.3, 4.0, 4.0), False), (None, False)]
)
def test_times_of_a_busy_machine_come_with_a_warning(load: tuple[float, ...] | None, is_told: bool) -> None:
    protocol = BenchmarkProtocol(("full",), (1,), (10.0,), None, None, 32, 5, 1, 2, "noise", "process")
    machine = replace(environment(1), load_average=load)
    said = "\n".join(map(str, benchmark_sections(Benchmark({}, protocol, machine, ()))))
    assert ("The machine was busy (load 4.2)" in said) is is_told
