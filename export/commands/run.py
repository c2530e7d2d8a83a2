"""`fastadasp-export run`: clips in, transcripts and latency out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ...profiles.errors import AudioError, ChoiceError, DeadlineExceeded, LongAudioError
from .answer_record import record
from .command import StrictCommand
from .lists import NAMES, one_option
from .output import check_output
from .parameters import PATH, auto_of, auto_options, load, runtime_options
from .row_map_file import check_row_maps, write_row_map
from .search_parameters import search_of, search_options
from .timed import print_segments, refuse_combinations, segment_options, segmenting_of

if TYPE_CHECKING:
    from ...runtime import Auto, GenerationResult, RawPrompt, SpeechLM
    from ...runtime.artifact.manifest import Manifest
    from ...runtime.decoding.options import ResolvedSearch

STDIN, STDIN_FILE = "-", Path("/dev/stdin")


@click.command(cls=StrictCommand, short_help="Answer clips, with latency by stage.")
@click.argument("artifact", type=PATH)
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@one_option(
    "--profile",
    "profile",
    NAMES,
    "A profile of the artifact, or auto, with a budget.  [default: its first one]",
    instead="eval compares profiles, bench times them",
)
@auto_options
@click.option(
    "--prompt", metavar="TEXT", help='Text of the request, such as "<asr>".  [default: the artifact\'s]'
)
@click.option(
    "--raw-prompt", metavar="TEXT", help="A prompt taken whole, which names the place of the audio."
)
@click.option("--system", metavar="TEXT", help="System text, where the model's template has a place for it.")
@search_options("artifact")
@runtime_options
@click.option(
    "--deadline", type=float, metavar="SECONDS", help="Give up on a clip after so long.  [default: never]"
)
@click.option("--stream", is_flag=True, help="Print the text as it is found (greedy search).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per clip instead.")
@click.option(
    "--map",
    "map_file",
    type=PATH,
    metavar="FILE",
    help="Write which seconds each row of each layer stands for, for report; of one CLIP and an artifact "
    "built with --row-maps or --word-heads.",
)
@segment_options
@click.pass_context
def run(ctx: click.Context, /, artifact: Path, clips: tuple[str, ...], **values: Any) -> None:
    """Transcribe each CLIP (wav, flac, ogg, mp3; - reads from a pipe) with ARTIFACT.

    ARTIFACT is a folder that build has written, with one profile or more: how many audio tokens are removed,
    and where. Answers go to stdout, tables to stderr. With several clips every line is a clip, a tab and its
    answer. One that cannot be read, or not be answered within its deadline, is named on stderr, and the
    others are answered; then the exit code is 1. With --segments clips may be of any length: the speech in
    them is found as they are read, and every stretch of it is answered by itself and printed with its times.
    With --profile auto the profile is chosen for the length of each CLIP, by a budget and the figures that
    ARTIFACT holds (figures ART); which one and why goes to stderr. The times are those of single requests,
    the first one cold; bench takes medians.
    """
    if "" in clips:
        raise click.UsageError("a CLIP is empty; give the path of a file, or - for a pipe")
    if values["stream"] and values["as_json"]:
        raise click.UsageError("--stream and --json exclude each other")
    refuse_combinations(values, len(clips))
    if values["map_file"]:
        _check_map(values, artifact, clips)
    search, prompt, segmenting = search_of(values), _prompt(values), segmenting_of(values)
    auto = auto_of(values)
    model = load(artifact, **values if auto is None else {**values, "profile": None})
    asked = Asked(prompt, values["system"], model.search_options(search), values["deadline"], auto)
    if auto is not None:
        _prepare_choice(model, auto, asked.search.num_beams)
    if values["segments"]:
        how = {"segmenting": segmenting, "at_once": values["at_once"] or 1}
        failures = _segments(model, clips, asked, how, values["format"])
    elif values["stream"]:
        failures = _stream(model, clips, asked)
    elif values["map_file"]:
        failures = _mapped(model, clips[0], asked, values)
    else:
        failures = _answer(model, clips, asked, as_json=values["as_json"])
    if prompt is None:
        _hint(model.manifest)
    ctx.exit(1 if failures else 0)


def _prepare_choice(model: SpeechLM, auto: Auto, num_beams: int) -> None:
    """Tell once a budget that no audio is short enough for; load what requests may need."""
    from ...runtime.choice.choose import check_choice, may_be_chosen

    figures, profiles = model.manifest.figures, tuple(model.manifest.profiles)
    check_choice(figures, profiles, auto, num_beams)
    model.prepare(*may_be_chosen(figures, profiles, auto))


@dataclass(frozen=True)
class Asked:
    """What is asked about every clip."""

    prompt: str | RawPrompt | None
    system: str | None
    search: ResolvedSearch
    deadline: float | None  # seconds from the start of each request
    auto: Auto | None = None  # what a profile is chosen for; None: that of the model

    @property
    def keywords(self) -> dict[str, Any]:
        """What every request is given beside audio and prompt."""
        own = {"system": self.system, "search": self.search, "deadline": self.deadline}
        return {**own, "profile": self.auto}


def _prompt(values: dict[str, Any]) -> str | RawPrompt | None:
    from ...runtime.prompt import RawPrompt

    prompt, raw = values["prompt"], values["raw_prompt"]
    if prompt is not None and raw is not None:
        raise click.UsageError(
            "--prompt and --raw-prompt exclude each other: the second takes the whole text"
        )
    return prompt if raw is None else RawPrompt(raw)


def _hint(manifest: Manifest) -> None:
    """Say that nothing is asked, where that is so: the answer may be to another question than the user's."""
    if manifest.prompt is not None and not manifest.prompt.asks_by_itself:
        click.echo(
            "hint: without --prompt the model heard the audio and no question;\n"
            "build --prompt gives an artifact a default one",
            err=True,
        )


def _each(clips: tuple[str, ...], ask: Callable[[str], None], cut_by: str = "") -> int:
    """Ask about clip by clip; one of several that cannot be heard, or is or takes too long, stops no others.

    Returns how many there were of those. `cut_by` is what cuts audio that is too long to be heard at once.
    """
    failures = 0
    for clip in clips:
        try:
            with _remedied(cut_by):
                ask(clip)
        except (AudioError, ChoiceError, DeadlineExceeded) as error:
            if len(clips) == 1:
                raise
            failures += 1
            place = "" if isinstance(error, AudioError) else f"{clip}: "
            click.echo(f"Error: {place}{error}", err=True)
    return failures


@contextmanager
def _remedied(cut_by: str) -> Iterator[None]:
    """Name what cuts audio, if anything does, where it is refused for its length."""
    try:
        yield
    except LongAudioError as error:
        if not cut_by:
            raise
        raise LongAudioError(f"{error}; {cut_by} cuts it") from error


def _answer(model: SpeechLM, clips: tuple[str, ...], asked: Asked, *, as_json: bool) -> int:
    """Answer each clip; returns how many could not be heard. If a request fails, the answers are not lost."""
    answered: list[tuple[str, GenerationResult]] = []

    def ask(clip: str) -> None:
        result = model.generate(_source(clip), asked.prompt, **asked.keywords)
        click.echo(_line(clip, result, len(clips), as_json=as_json))
        answered.append((clip, result))

    try:
        return _each(
            clips, ask, "--segments --format jsonl, in place of --json," if as_json else "--segments"
        )
    finally:
        if answered and not as_json:
            _report(answered, asked.search.num_beams)
        for clip, result in answered:
            _say_choice(clip, result)


def _check_map(values: dict[str, Any], artifact: Path, clips: tuple[str, ...]) -> None:
    """Tell what --map does not go with before anything is loaded."""
    if values["stream"] or values["segments"]:
        raise click.UsageError("--map is of one answer: leave out --stream and --segments")
    if len(clips) > 1:
        raise click.UsageError("--map is of one answer: give one CLIP")
    (clip,) = clips
    check_output(values["map_file"], (artifact, STDIN_FILE if clip == STDIN else Path(clip)))


def _mapped(model: SpeechLM, clip: str, asked: Asked, values: dict[str, Any]) -> int:
    """As `_answer` for one clip, and the file of its map."""
    from ...runtime.audio.read import load_audio
    from ...runtime.limits import length_limit

    check_row_maps(model)
    rate, limit = model.manifest.front_end.log_mel.sample_rate, length_limit(model.manifest)
    source = sys.stdin.buffer.read() if clip == STDIN else clip  # a pipe cannot be read twice
    samples = load_audio(source, rate, check_length=limit).samples
    result = model.generate(source, asked.prompt, **asked.keywords)
    write_row_map(values["map_file"], model, clip, samples, result, values["threads"] or 0)
    click.echo(_line(clip, result, 1, as_json=values["as_json"]))
    if not values["as_json"]:
        _report([(clip, result)], asked.search.num_beams)
    _say_choice(clip, result)
    return 0


def _line(clip: str, result: GenerationResult, num_clips: int, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"clip": clip, **record(result)}, ensure_ascii=False, allow_nan=False)
    return result.text if num_clips == 1 else f"{clip}\t{result.text}"


def _report(answered: list[tuple[str, GenerationResult]], num_beams: int) -> None:
    from ...runtime.tables.answers import clips_section, hypotheses_section, latency_section
    from ...runtime.tables.tables import console, show

    several = [hypotheses_section(clip, result) for clip, result in answered if len(result.hypotheses) > 1]
    latency = latency_section(answered[0][1], num_beams) if len(answered) == 1 else clips_section(answered)
    show(console(stderr=True), (*several, latency))


def _stream(model: SpeechLM, clips: tuple[str, ...], asked: Asked) -> int:
    """As `_answer`, token by token."""

    def ask(clip: str) -> None:
        begin, first = time.perf_counter(), None
        pieces = model.stream(_source(clip), asked.prompt, **asked.keywords)
        if len(clips) > 1:
            click.echo(f"{clip}\t", nl=False)
        try:
            for piece in pieces:
                first = first or time.perf_counter() - begin
                click.echo(piece, nl=False)
        finally:
            click.echo()  # ends the line of an answer that was given up, too
        _stream_report(clip, first, time.perf_counter() - begin)
        _say_choice(clip, pieces.result)

    return _each(clips, ask, "--segments, in place of --stream,")


def _segments(
    model: SpeechLM, clips: tuple[str, ...], asked: Asked, how: dict[str, Any], form: str | None
) -> int:
    """As `_answer`, segment by segment."""

    def ask(clip: str) -> None:
        found = model.segments(_source(clip), asked.prompt, **how, **asked.keywords)
        print_segments(clip, found, form or "text", named=len(clips) > 1)

    return _each(clips, ask)


def _stream_report(clip: str, first: float | None, whole: float) -> None:
    start = "no text" if first is None else f"first text after {first * 1e3:.1f} ms"
    click.echo(f"{clip}: {start}, all of it after {whole * 1e3:.1f} ms", err=True)


def _say_choice(clip: str, result: GenerationResult) -> None:
    """Which profile was chosen and why, if one was."""
    if result.profile_reason is not None:
        click.echo(f"{clip}: {result.profile_reason}", err=True)


def _source(clip: str) -> str | BinaryIO:
    return sys.stdin.buffer if clip == STDIN else clip
