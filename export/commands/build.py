"""`fastadasp-export build`: a checkpoint in, an artifact out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...profiles.errors import ResultsError
from ...profiles.profile import load_profiles
from ...runtime.decoding.options import MOST_BEAMS
from ...runtime.tables.units import size
from ..model.formats import QUANTIZED
from ..options import (
    ENGINES,
    KV_PRECISIONS,
    LEAST_AUDIO_SECONDS,
    PRECISIONS,
    PRODUCTS,
    WEIGHT_MODES,
    BuildOptions,
    EngineOptions,
)
from ..targets import TARGETS
from .case_parameters import int4_block_option
from .command import Command, StrictCommand
from .figures_parameters import figures_options, say_figures, sources_of
from .lists import HEADS, NAMES, list_option
from .parameters import PATH, lora_option, profile_options, require_all
from .progress import Lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ...profiles.signature import WordHeads
    from ...runtime.artifact.manifest import Manifest

ENGINE_DEFAULTS = EngineOptions()
GRAPH_PRECISION = "fp32"
ORIGINS = {
    "linked": "hard-linked to the checkpoint, no bytes copied",
    "copied": "copied from the checkpoint",
    "converted": "converted to {precision}",
}
PRECISION_NAMES = {"fp32": "float32"}

LIMITS = {
    "max_audio_seconds": (click.FloatRange(min=LEAST_AUDIO_SECONDS), "Longest audio that the engines take."),
    "max_beams": (click.IntRange(1, MOST_BEAMS), "Most beams that the decode engine takes."),
    "max_batch": (click.IntRange(min=1), "Most requests that share a step of the decode engine."),
    "max_text_rows": (click.IntRange(min=1), "Most tokens of text before the audio, and after it."),
    "max_new_tokens": (click.IntRange(min=1), "Most tokens of an answer."),
}
"""Field of `EngineOptions` -> type, help."""


def engine_limits(command: Command) -> Command:
    """Add the options for the sizes that engines are built for."""
    for field, (kind, text) in reversed(LIMITS.items()):
        flag, default = f"--{field.replace('_', '-')}", getattr(ENGINE_DEFAULTS, field)
        command = click.option(flag, type=kind, default=default, show_default=True, help=text)(command)
    return command


@click.command(cls=StrictCommand, short_help="Build an artifact from a checkpoint.")
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, metavar="ART", help="The artifact's folder.")
@profile_options
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Numbers of engines and of graphs for CUDA, bf16 by default. Graphs for CPUs are fp32.",
)
@list_option(
    "--target",
    "targets",
    NAMES,
    f"What runs the graphs: {', '.join(TARGETS)}.",
    default=BuildOptions.targets,
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHT_MODES),
    default=BuildOptions.weights,
    show_default=True,
    help="Hard links to the checkpoint's files, or copies. Weights of another precision are converted.",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZED),
    help="Store the large matrices in fewer bits, and compute with them.",
)
@int4_block_option
@lora_option
@click.option(
    "--kv-precision",
    type=click.Choice(KV_PRECISIONS),
    help="Keep keys and values of prompts in 16 bits, on ONNX Runtime; engines have a format of their own.",
)
@click.option(
    "--row-maps",
    is_flag=True,
    default=BuildOptions.row_maps,
    help="Let every answer say which seconds each row stands for, as run --map writes it; it takes time.",
)
@list_option(
    "--word-heads",
    "word_heads",
    HEADS,
    "Heads of one layer that look at words as they begin: run --json, transcribe and serve then say when.",
    metavar="LAYER.HEAD",
    otherwise="none",
)
@click.option(
    "--calibration",
    type=PATH,
    metavar="FILE",
    help="Clips with answers, a list as for eval: int4 is chosen by what the model multiplies with them.",
)
@click.option(
    "--audio-root",
    type=PATH,
    metavar="DIR",
    help="Where audio paths of the calibration begin.  [default: the clip list's]",
)
@click.option("--prompt", metavar="TEXT", help="Default prompt of the artifact, for requests without one.")
@click.option(
    "--max-positions",
    type=click.IntRange(min=1),
    help="More positions than the checkpoint has; what lies beyond its own is extrapolated.",
)
@click.option(
    "--fold-prompt",
    metavar="TEXT",
    help="Build for this prompt alone, where prompts decide how strong LoRA is: it goes into the weights.",
)
@click.option("--force", is_flag=True, default=BuildOptions.force, help="Replace the artifact that is there.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Build TensorRT engines, too: those of tensorrt-rtx without a GPU, those of tensorrt on the GPU "
    "itself (never tried).",
)
@click.option(
    "--sm",
    type=click.IntRange(min=80),
    default=ENGINE_DEFAULTS.sm,
    show_default=True,
    help="Compute capability of the GPU, times ten; 80 is the A100.",
)
@engine_limits
@figures_options
@click.option(
    "--reproducible",
    is_flag=True,
    help="Build plans that are the same byte for byte each time: slower, on one core at real-time priority.",
)
def build(
    checkpoint: Path,
    output: Path,
    profiles: tuple[str, ...],
    folders: tuple[Path, ...],
    weights: str,
    prompt: str | None,
    force: bool,
    max_positions: int | None,
    fold_prompt: str | None,
    quantize: str | None,
    int4_block: str,
    lora: Path | None,
    kv_precision: str | None,
    row_maps: bool,
    word_heads: tuple[tuple[int, int], ...],
    calibration: Path | None,
    audio_root: Path | None,
    targets: tuple[str, ...],
    accepted: tuple[str, ...],
    latency: Path | None,
    least_recordings: int,
    **engine: Any,
) -> None:
    """Build an artifact from CHECKPOINT.

    An artifact is a folder with all that a model needs to be run: graphs, weights, tokenizer. A profile says
    which audio tokens are removed, in which layers; profiles list shows those that are built in. All profiles
    share the weights and the decode graph. With --accepted or --latency the artifact then holds
    figures, as figures takes them in; if they are of another model, it is built all the same, without them.
    """
    if audio_root is not None and calibration is None:
        raise click.UsageError(
            "--audio-root: where the clips of --calibration are; give a clip list, or leave it out"
        )
    torch = () if fold_prompt is None and calibration is None else ("torch",)
    require_all({"export": ("onnx", *torch), **_engine_packages(engine["engine"])})
    sources = sources_of({"accepted": accepted, "latency": latency, "least_recordings": least_recordings})
    begin = time.perf_counter()
    has_choice = any(len(TARGETS[name].precisions) > 1 for name in targets if name in TARGETS)
    chosen = load_profiles(profiles, folders)
    from ...evaluation.clips.read import read_clips_of_any_task
    from ..checkpoint.checkpoint import Checkpoint
    from ..checkpoint.tokenizer import missing_tokenizer
    from ..model.families.family import say
    from ..pipeline import build as build_artifact

    with Stages() as stages:
        options = BuildOptions(
            chosen,
            weights,
            force,
            _engine_options(has_choice=has_choice, **engine),
            targets=targets,
            prompt=prompt,
            max_positions=max_positions,
            fold_prompt=fold_prompt,
            quantize=quantize,
            int4_block=int(int4_block),
            lora=lora,
            kv_precision=kv_precision,
            row_maps=row_maps,
            word_heads=_word_heads(word_heads),
            calibration=None if calibration is None else read_clips_of_any_task(calibration, audio_root),
            precision=engine["precision"] if has_choice else None,
        )
        manifest = build_artifact(checkpoint, output, options, stages.begin, stages.step, stages.say)
        say(missing_tokenizer(Checkpoint(checkpoint)))
    whole = sum(record.size for record in manifest.files.values())
    elapsed = time.perf_counter() - begin
    origins = [f"in {quantize}"] if quantize else list(dict.fromkeys(_origins(manifest)))
    click.echo(f"{output}: {size(whole)}, built in {elapsed:.1f} s; weights {'; '.join(origins)}")
    if sources is not None:
        from ..figures.take_in import take_in

        try:
            say_figures(take_in(output, sources), sources)
        except ResultsError:
            click.echo(f"{output} stands without them; figures {output} takes in others", err=True)
            raise


def _word_heads(pairs: tuple[tuple[int, int], ...]) -> WordHeads | None:
    """Heads by the layer that they are in, which must be one."""
    if not pairs:
        return None
    (layer, *others) = dict.fromkeys(layer for layer, _ in pairs)
    if others:
        layers = ", ".join(map(str, (layer, *others)))
        raise click.UsageError(f"--word-heads has heads of layers {layers}: give those of one layer")
    from ...profiles.signature import WordHeads

    return WordHeads(layer, tuple(head for _, head in pairs))


def _origins(manifest: Manifest) -> Iterator[str]:
    """How the weights got there, those of each precision where there are several; and what is beside them."""
    from ..checkpoint.weights import COMPUTED, FOLDER

    for precision, weights in manifest.weights.items():
        name = PRECISION_NAMES.get(precision, precision)
        own = ORIGINS[weights.origin].format(precision=name)
        yield own if len(manifest.weights) == 1 else f"in {name} {own.removesuffix(f' to {name}')}"
        files = {place.file for each in (weights.encoder, weights.decoder) for place in each.values()}
        if computed := sorted(name for name in files if name.startswith(f"{FOLDER}/{COMPUTED}")):
            whole = sum(manifest.files[name].size for name in computed)
            yield f"{size(whole)} computed and written beside them"


def _engine_packages(engine: str | None) -> dict[str, tuple[str, ...]]:
    """The packages that --engine needs, by extra."""
    return {} if engine is None else {engine: (PRODUCTS[engine],), "engines": ("polygraphy", "triton")}


def _engine_options(
    engine: str | None, precision: str | None, has_choice: bool, **values: Any
) -> EngineOptions | None:
    """What the options of the command ask for; None without --engine.

    The precision is one for engines unless a target has a choice, too.
    """
    if engine is None:
        for_engines = precision not in (None, GRAPH_PRECISION) and not has_choice
        given = {"precision": precision} if for_engines else {}
        given |= {name: it for name, it in values.items() if it != getattr(ENGINE_DEFAULTS, name)}
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            other = " or --target onnxruntime-cuda" if list(given) == ["precision"] else ""
            raise click.UsageError(f"{flags}: for engines; give --engine {ENGINES[0]}{other} with it")
        return None
    return EngineOptions(engine, precision=precision or ENGINE_DEFAULTS.precision, **values)


class Stages:
    """Shows the stage at work with its progress, and leaves a line with the time of each one that is done."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from ...runtime.tables.tables import console

        self.console: Console = console(stderr=True)
        texts = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[phase]}")
        self.bar: Progress = Progress(*texts, TimeElapsedColumn(), console=self.console, transient=True)
        self.task = self.bar.add_task("", total=None, phase="")
        self.name, self.since = "", 0.0
        self.lines = Lines()

    def __enter__(self) -> Stages:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._done()
        self.bar.stop()

    def begin(self, name: str) -> None:
        """The last stage has ended, the next one begins."""
        self._done()
        self.name, self.since, self.lines = name, time.perf_counter(), Lines()
        self.bar.reset(self.task, description=name, total=None, phase="")

    def step(self, phase: str, done: int, steps: int) -> None:
        """The stage at work has got so far in one of its phases."""
        if not self.console.is_terminal:
            self.lines.say(f"{self.name}: {phase}, {100 * done // max(1, steps)} %")
        self.bar.update(self.task, completed=done, total=steps, phase=phase)

    def say(self, line: str) -> None:
        """A line of its own."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _done(self) -> None:
        if self.name:
            self.console.print(f"{self.name:<40}{time.perf_counter() - self.since:6.2f} s")
