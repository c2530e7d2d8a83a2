"""Answers of `run` as tables: one request stage by stage, several requests, several hypotheses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .tables import LEGEND, Section, columns
from .units import factor, milliseconds, percent, rate, seconds, size

if TYPE_CHECKING:
    from ..latency import Latency
    from ..results import GenerationResult

FRONT_STAGES = {
    "audio": "audio decode",
    "mel": "log-mel",
    "encoder": "encoder",
    "prompt": "prompt adapter",
    "prefill": "prefill",
}
OF_SOME_MODELS = ("prompt",)  # stages that are shown where they took time


def latency_section(result: GenerationResult, num_beams: int) -> Section:
    """One request, stage by stage."""
    latency, beams = result.latency, f"{num_beams} beams" if num_beams > 1 else "greedy"
    table = columns("", "", "", header=False)
    table.columns[2].justify, table.columns[2].no_wrap = "left", False
    for name, figure, remark in _latency_rows(result, latency):
        table.add_row(name, figure, remark)
    return Section(f"{result.profile}, {beams}, {seconds(result.audio_seconds)} s of audio", table)


def clips_section(results: Sequence[tuple[str, GenerationResult]]) -> Section:
    """Several requests, one per row."""
    names = ("audio s", "request", "prefill", "decode", "step", "RTF", "tok/s", "kept", "KV")
    table = columns("clip", *names, gap=1)
    for clip, result in results:
        kept, audio = f"{100 * result.kept_ratio:.0f} %", seconds(result.audio_seconds)
        table.add_row(Path(clip).name, audio, *_figures(result.latency), kept, size(result.kv_bytes))
    return Section(f"{results[0][1].profile}, latency in ms", table, LEGEND)


def hypotheses_section(clip: str, result: GenerationResult) -> Section:
    """All returned hypotheses of one clip."""
    table = columns("score", "hypothesis", left=2)
    for hypothesis in result.hypotheses:
        end = "" if hypothesis.finished else " [cut off by max_new_tokens]"
        table.add_row(f"{hypothesis.score:.4f}", hypothesis.text + end)
    return Section(f"{clip}: {len(result.hypotheses)} hypotheses", table)


def _latency_rows(result: GenerationResult, latency: Latency) -> Iterable[tuple[str, str, str]]:
    for name, text in FRONT_STAGES.items():
        if name in OF_SOME_MODELS and not latency.stages[name]:
            continue
        yield text, f"{milliseconds(latency.stages[name])} ms", ""
    yield "decode", f"{milliseconds(latency.decode_ms)} ms", _steps(latency)
    yield "detokenize", f"{milliseconds(latency.stages['detokenize'])} ms", ""
    if latency.first_token_ms is not None:
        yield "first token", f"{milliseconds(latency.first_token_ms)} ms", "from the start of the request"
    yield "request", f"{milliseconds(latency.request_ms)} ms", _real_time(latency)
    yield "throughput", f"{rate(latency.tokens_per_second)} tok/s", _throughput(latency)
    yield "audio rows kept", percent(result.kept_ratio), f"over {len(result.prefix_lengths)} layers"
    yield "KV cache", size(result.kv_bytes), "prefix, shared by the beams, and their pool"


def _figures(latency: Latency) -> tuple[str, ...]:
    times = (latency.request_ms, latency.prefill_ms, latency.decode_ms, latency.step_ms)
    return (*map(milliseconds, times), factor(latency.rtf), rate(latency.tokens_per_second))


def _steps(latency: Latency) -> str:
    if not latency.steps:
        return "no step was needed"
    search = milliseconds(latency.stages["beam"])
    return f"{latency.steps} steps of {milliseconds(latency.step_ms)} ms; {search} ms of it search"


def _real_time(latency: Latency) -> str:
    return f"RTF {factor(latency.rtf)} = request latency / audio; RTFx {factor(latency.rtfx)}"


def _throughput(latency: Latency) -> str:
    return f"= {latency.output_tokens} tokens of the hypothesis / decode latency"
