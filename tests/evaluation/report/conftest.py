"""Results with made-up figures beside those of the commands, all written as result files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastadasp.evaluation.results.files import Results, read_results

from . import examples

MADE_UP = {
    "compare-asr.json": examples.asr_comparison,
    "compare-st.json": examples.translation_comparison,
    "layers-made-up.json": examples.selection,
    "tune-made-up.json": examples.tuning,
}


@pytest.fixture(scope="session")
def made_up_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Of `compare`, `select-layer` and `tune`."""
    folder = tmp_path_factory.mktemp("made-up")
    return tuple(examples.write(folder / name, found()) for name, found in MADE_UP.items())


@pytest.fixture(scope="session")
def all_files(real_files: dict[str, Path], made_up_files: tuple[Path, ...]) -> tuple[Path, ...]:
    return (*real_files.values(), *made_up_files)


@pytest.fixture(scope="session")
def results(real_files: dict[str, Path], made_up_files: tuple[Path, ...]) -> Results:
    """Comparisons and a tuning with made-up figures, the rest of commands."""
    of_commands = (
        real_files[kind] for kind in ("eval", "bench", "bench-load", "select-layer", "plan", "row-map")
    )
    return read_results((*of_commands, *made_up_files))
