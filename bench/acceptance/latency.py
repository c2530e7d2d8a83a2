"""The paper's latency table on a backend: random weights of three sizes, beside what the paper measured."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import BuildError, build_artifact, load
from .checkout import ROOT
from .models import MODELS, Model
from .records import Check, Skipped
from .stages import Context, Finding

if TYPE_CHECKING:
    from fastadasp.runtime import SpeechLM
    from fastadasp.runtime.benchmark.records import Benchmark, Case

PROFILES = "full", "dense-constant-50", "sparse-50"
CASES = tuple(product((240.0, 120.0), (5, 1)))  # seconds of audio, beams: where most is to be seen first
FIGURES = "prefill_ms", "decode_ms", "rtf", "tokens_per_second"
NEW_TOKENS, RUNS, WARM_UP = 64, 3, 1
OF_A_CHECKPOINT = 60, 15  # seconds to build and load it, and of a case
PAPER = ROOT / "export/prediction/assets/published.toml"
SETTINGS = "config.json", "preprocessor_config.json", "generation_config.json"
HALF = {"sparse-50": "dense-constant-50"}  # the table has one row for half of the tokens


def paper_row(seconds: float, beams: int, profile: str) -> Mapping[str, float] | None:
    """The figures of the paper's Table 12: RTF, seconds of prefill and decode, tokens a second."""
    table = tomllib.loads(PAPER.read_text("utf-8"))["table"]
    case = {"beams": beams, "audio_seconds": seconds, "profile": HALF.get(profile, profile)}
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"])
    found = next((row for row in rows if case.items() <= row.items()), None)
    return None if found is None else {name: found[name] for name in found.keys() - case.keys()}


def latency(
    context: Context, backend: str, *options: str, models: tuple[Model, ...] = MODELS
) -> Iterator[Finding]:
    """Every model that there is time for, case after case.

    Args:
        context: of the stage.
        backend: of the runtime.
        options: of `build`, which choose the target or the engine.
        models: in order of worth; a checkpoint of the context takes their place.
    """
    for model in _given(context.checkpoint) or models:
        if not context.has(model.seconds + model.seconds_a_case):
            yield Skipped(model.name, model.seconds + len(CASES) * model.seconds_a_case)
            continue
        folder = context.folder / "latency"
        try:
            yield from _of_model(context, model, folder, backend, options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _given(checkpoint: Path | None) -> tuple[Model, ...]:
    """The caller's own checkpoint, in place."""
    if checkpoint is None:
        return ()

    def write(folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(checkpoint.resolve())

    return (Model(str(checkpoint), write, *OF_A_CHECKPOINT),)


def _of_model(
    context: Context, model: Model, folder: Path, backend: str, options: tuple[str, ...]
) -> Iterator[Finding]:
    from fastadasp.profiles.errors import FastAdaSPError

    try:
        model.write(folder / "checkpoint")
        build_artifact(folder / "checkpoint", folder / "artifact", PROFILES, *options, *model.options)
        loaded, ran_on = load(folder / "artifact", backend, context.device)
    except (BuildError, FastAdaSPError) as error:
        yield Check(f"{model.name}: build and load", False, None, fault=str(error))
        return
    with loaded:
        measured: list[Benchmark] = []
        for seconds, beams in CASES:
            name = f"{model.name}, {seconds:g} s, beams {beams}"
            if not context.has(model.seconds_a_case):
                yield Skipped(name, model.seconds_a_case)
                continue
            try:
                measured.append(_measured(loaded, seconds, beams))
            except FastAdaSPError as error:
                yield Check(name, False, ran_on, fault=str(error))
            else:
                yield from _checks(model, measured[-1].results, ran_on)
    if measured:
        yield _recorded(context, model, folder / "checkpoint", measured, backend, ran_on)


def _measured(loaded: SpeechLM, seconds: float, beams: int) -> Benchmark:
    """All profiles in turns."""
    from fastadasp.runtime.benchmark.benchmark import run_benchmark
    from fastadasp.runtime.benchmark.options import BenchmarkOptions

    numbers = {"new_tokens": NEW_TOKENS, "runs": RUNS, "warmup": WARM_UP}
    return run_benchmark(loaded, BenchmarkOptions(PROFILES, (beams,), (seconds,), **numbers))


def _checks(model: Model, cases: Iterable[Case], ran_on: str | None) -> Iterator[Check]:
    for case in cases:
        figures: dict[str, Any] = {
            "model": model.name,
            "kept_ratio": case.kept_ratio,
            "kv_bytes": case.kv_bytes,
            **{name: case.median(name) for name in FIGURES},
        }
        if model.is_of_the_paper:
            figures["paper"] = paper_row(case.audio_seconds, case.beams, case.profile)
        yield Check(f"{model.name}, {case.label}", case.skipped is None, ran_on, figures, case.skipped)


def _recorded(
    context: Context,
    model: Model,
    checkpoint: Path,
    measured: Sequence[Benchmark],
    backend: str,
    ran_on: str | None,
) -> Check:
    """The whole as `bench` records it, also in a file of its own, which `report` and `plan` read.

    Beside it the settings of the model, which are all that `plan` needs of a checkpoint.
    """
    from fastadasp.evaluation.results.files import result_text

    cases = tuple(case for each in measured for case in each.results)
    protocol = replace(
        measured[0].protocol,
        beams=tuple(dict.fromkeys(case.beams for case in cases)),
        audio_seconds=tuple(dict.fromkeys(case.audio_seconds for case in cases)),
    )
    text = result_text(replace(measured[0], protocol=protocol, results=cases))
    context.artifacts.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"{backend} {model.name}".lower())
    (context.artifacts / f"bench-{name}.json").write_text(text, "utf-8")
    settings = context.artifacts / f"settings-{name}"
    settings.mkdir(exist_ok=True)
    for found in (checkpoint / file for file in SETTINGS):
        if found.is_file():
            shutil.copyfile(found, settings / found.name)
    return Check(f"{model.name}: record of bench", True, ran_on, {"record": json.loads(text)})
