"""The demo: build the shipped SpeechLM and its A100 engines, transcribe human clips, measure latency.

python demo/run_demo.py [--output build/demo]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import GenerationResult, SpeechLM
from fastadasp.runtime.artifact.manifest import Manifest
from fastadasp.runtime.audio.read import load_audio
from fastadasp.runtime.benchmark.benchmark import run_benchmark
from fastadasp.runtime.benchmark.options import BenchmarkOptions
from fastadasp.runtime.benchmark.records import Case
from fastadasp.runtime.tables.artifact import engines_title

HERE = Path(__file__).parent
CLIPS = HERE / "clips"
PROFILES = ("full", "dense-constant-50")
PROMPT = "<asr>"
ASKED, QUESTIONS = "dates-02.flac", ("<asr>", "<fr>", "<de>", "<qa> day", "<qa> after march")
SAMPLE_RATE = 16000
CLIP_SECONDS, LONG_SECONDS = 30, 240
RUNS = 5
console = Console(width=110)


def main() -> None:
    """Build, transcribe, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    artifact = parser.parse_args().output
    build_demo(artifact)
    model = SpeechLM.load(artifact)
    with console.status("transcripts") as status:
        transcribe_clips(model)
        ask_about_one(model)
        status.update("transcripts of four minutes")
        transcribe_long(model)
    console.print(f"Latency: {RUNS} runs or more of each case, for some minutes …")
    measure(model)
    console.print("\nTry it, on this clip or on your own:")
    console.print(f"  .venv/bin/fastadasp-export run {artifact} demo/clips/dates-01.flac")


def build_demo(artifact: Path) -> None:
    """One artifact with both profiles."""
    begin = time.perf_counter()
    profiles = tuple(load_profile(name) for name in PROFILES)
    options = BuildOptions(profiles, force=True, engines=EngineOptions(), prompt=PROMPT)
    with console.status("build") as status:
        manifest = build(HERE / "model", artifact, options, report=status.update)
    size = sum(record.size for record in manifest.files.values())
    seconds = time.perf_counter() - begin
    console.print(
        f"Built {artifact}: profiles {', '.join(PROFILES)}, {size / 1e6:.1f} MB, {seconds:.1f} s, "
        f"weights {', '.join(manifest.weight_origins)}\n"
    )
    show_engines(manifest)


def show_engines(manifest: Manifest) -> None:
    """How long each engine took, and how large it is."""
    engines = manifest.engines
    assert engines is not None
    title = f"Engines for the A100 ({engines_title(engines)}); built without a GPU, never run on one"
    table = Table("engine", "plugin layers", "built in", "size", title=title, title_justify="left")
    for name, plan in engines.plans.items():
        layers = ", ".join(f"{count} {layer}" for layer, count in plan.plugin_layers.items())
        size = manifest.files[plan.file].size
        table.add_row(name, layers, f"{plan.seconds:.1f} s", f"{size / 1e6:.1f} MB")
    console.print(table, "")


def transcribe_clips(model: SpeechLM) -> None:
    """Every clip under both profiles, greedy and with beams; wrong answers are marked."""
    columns = [(profile, beams) for profile in PROFILES for beams in (1, 5)]
    right = dict.fromkeys(columns, 0)
    heads = ("said", "full", "full, 5 beams", "50 %", "50 %, 5 beams")
    title = "Human clips; = where the transcript is right, 50 % is dense-constant-50"
    table = Table(*heads, title=title, title_justify="left")
    clips = [json.loads(line) for line in (CLIPS / "transcripts.jsonl").read_text("utf-8").splitlines()]
    for clip in clips:
        cells = []
        for profile, beams in columns:
            audio = CLIPS / clip["audio"]
            found = model.generate(audio, PROMPT, profile=profile, num_beams=beams, max_new_tokens=64)
            right[profile, beams] += found.text == clip["text"]
            cells.append("=" if found.text == clip["text"] else f"[red]{found.text}[/red]")
        table.add_row(clip["text"], *cells)
    table.add_row("[bold]right", *(f"[bold]{right[column]} of {len(clips)}" for column in columns))
    console.print(table)


def ask_about_one(model: SpeechLM) -> None:
    """One clip, every kind of question."""
    table = Table("prompt", *PROFILES, title=f"Prompts about {ASKED}", title_justify="left")
    for prompt in QUESTIONS:
        found = (model.generate(CLIPS / ASKED, prompt, profile=profile) for profile in PROFILES)
        table.add_row(prompt, *(one.text for one in found))
    console.print(table)


def transcribe_long(model: SpeechLM) -> None:
    """All clips one after another, repeated to four minutes, with five beams."""
    parts = [load_audio(path, SAMPLE_RATE).samples for path in sorted(CLIPS.glob("*.flac"))]
    samples = np.resize(np.concatenate(parts), LONG_SECONDS * SAMPLE_RATE)
    for profile in PROFILES:
        found = model.generate(samples, PROMPT, profile=profile, num_beams=5, max_new_tokens=128)
        console.print(_long_line(profile, found))
    console.print(
        "The demo model was trained on clips of at most 30 s: four minutes show speed, not skill.\n"
    )


def _long_line(profile: str, found: GenerationResult) -> str:
    return (
        f"{LONG_SECONDS} s, 5 beams, {profile}: {found.latency.output_tokens} tokens in "
        f"{found.latency.request_ms / 1e3:.1f} s (RTF {found.latency.rtf:.3f}), "
        f"{100 * found.kept_ratio:.0f} % of the audio rows kept, KV {found.kv_bytes / 1e6:.1f} MB"
    )


def measure(model: SpeechLM) -> None:
    """The latency table: two lengths, both profiles, one and five beams; medians."""
    options = BenchmarkOptions(
        profiles=PROFILES,
        beams=(1, 5),
        audio_seconds=(CLIP_SECONDS, LONG_SECONDS),
        clip=CLIPS / "digits-01.flac",
        prompt=PROMPT,
        runs=RUNS,
        warmup=1,
    )
    benchmark = run_benchmark(model, options)
    title = f"Latency, ms: medians of {options.runs} or more runs, {options.new_tokens} new tokens"
    columns = (
        "audio",
        "beams",
        "profile",
        "encoder",
        "prefill",
        "step",
        "request",
        "RTF",
        "rows kept",
        "KV MB",
    )
    table = Table(*columns, title=title, title_justify="left")
    for case in benchmark.results:
        table.add_row(f"{case.audio_seconds:g} s", str(case.beams), case.profile, *_figures(case))
    console.print(table)
    console.print(f"on {benchmark.environment.cpu}, {benchmark.environment.cores} cores")


def _figures(case: Case) -> tuple[str, ...]:
    """Encoder, prefill, step, request, RTF, rows kept and KV megabytes of one combination."""
    medians = {name: spread.median for name, spread in (case.figures or {}).items() if spread}
    encoder = (case.stages_ms or {}).get("encoder")
    return (
        f"{encoder.median:.0f}" if encoder else "",
        f"{medians['prefill_ms']:.0f}",
        f"{medians['step_ms']:.1f}",
        f"{medians['request_ms']:.0f}",
        f"{medians['rtf']:.3f}",
        f"{100 * (case.kept_ratio or 0):.0f} %",
        f"{(case.kv_bytes or 0) / 1e6:.1f}",
    )


if __name__ == "__main__":
    main()
