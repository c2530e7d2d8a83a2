"""Ours against transformers on one decoder with random weights: alternating, in one process, one thread.

Both get the same rows of audio and the same text, and generate the same number of tokens. Times are medians,
by the clock and of CPU; read the ratios, which are of CPU time: other work on the machine changes it least.
Memory is measured in processes of its own.

    python bench/compare.py -o bench/results/compare.json
    python bench/compare.py -o bench/results/quantized.json --parts latency --quantize none int8 int4
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import quiet
from random_checkpoint import write_checkpoint

from fastadasp.runtime.environment import cpu_flags, environment

THREADS = 1
ROWS_A_SECOND = 25
TEXT_BEFORE, TEXT_AFTER = 4, 8
NEW_TOKENS = 64
SIZES = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 2048,
    "vocab_size": 16000,
}
TARGETS = {  # of a system and beams: total latency of a peer / ours
    ("ours full", 1): ("fp32", 1.1),
    ("ours full", 5): ("fp32", 5.0),
    ("ours dense-constant-50", 1): ("fp32", 1.7),
    ("ours dense-constant-50", 5): ("fp32", 8.0),
    ("ours full, int8", 1): ("bf16", 1.25),
    ("ours full, int8", 5): ("bf16", 4.0),
    ("ours dense-constant-50, int8", 1): ("bf16", 2.1),
    ("ours dense-constant-50, int8", 5): ("bf16", 7.0),
}
PROFILES = ("full", "dense-constant-50")
FORMATS = ("none", "int8", "int4")  # of our large matrices; none: float32
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}  # of transformers
PEERS = ("torch", "transformers")
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
NOTHING = Fraction(1, 10**9)  # a ratio that scores and merges but removes no row


def main() -> None:
    options = _arguments()
    import torch

    torch.set_num_threads(THREADS)
    output: Path = options.output
    result = json.loads(output.read_text()) if output.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_checkpoint(folder / "checkpoint", SIZES)
        for form in options.quantize:
            build_artifact(folder, form)
        for part in options.parts:
            before = {**machine(), "peers": {name: version(name) for name in PEERS}}
            records = PARTS[part](folder, options)
            result[part] = {"environment": before, "runs": options.runs, "records": records}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"model": SIZES, "new_tokens": NEW_TOKENS, **result}, indent=1) + "\n")
    print_tables(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/compare.json"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="others are kept")
    parser.add_argument("--seconds", type=int, nargs="+", default=[120, 240])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--quantize",
        nargs="+",
        choices=FORMATS,
        default=FORMATS[:1],
        help="formats of our latency; default: none",
    )
    parser.add_argument("--peers", nargs="+", choices=DTYPES, default=list(DTYPES), help="of transformers")
    quiet.add_option(parser)
    options = parser.parse_args()
    quiet.refuse_busy(parser, options)
    if FORMATS[0] not in options.quantize and set(options.parts) != {"latency"}:
        parser.error(
            "overhead and memory are those of float32; give --quantize none as well, or --parts latency"
        )
    if fault := _fault_of(options.output, options.parts):
        parser.error(fault)
    return options


def _fault_of(output: Path, parts: list[str]) -> str | None:
    """Why the parts of a file that are not measured anew cannot stand beside those that are."""
    kept = json.loads(output.read_text()) if output.is_file() else {}
    for part, table in TABLES.items():
        if part in kept and part not in parts:
            try:
                table(kept[part]["records"])
            except (KeyError, TypeError) as error:
                return (
                    f"{output}: its {part} is that of an earlier version of this script, without {error}; "
                    f"measure it as well, with --parts {part}, or give another --output"
                )
    return None


def machine(threads: int = THREADS) -> dict[str, Any]:
    """What a measurement runs on, with the instructions of the CPU that decide on 8 and 16 bits."""
    flags = cpu_flags()
    return {**asdict(environment(threads)), "instructions": [name for name in INSTRUCTIONS if name in flags]}


def build_artifact(folder: Path, form: str) -> None:
    """The profiles of the comparison, and two that only score and merge."""
    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles import Profile, load_profile

    score = {"method": "weighted_merge", "ratio": NOTHING, "start_layer": 2}
    profiles = (
        *map(load_profile, PROFILES),
        Profile("score-constant", schedule="constant", **score),
        Profile("score-single", schedule="single", **score),
    )
    quantize = None if form == FORMATS[0] else form
    build(folder / "checkpoint", folder / f"artifact-{form}", BuildOptions(profiles, quantize=quantize))


def prompt(seconds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids before, audio rows, token ids after."""
    random = np.random.default_rng(seconds)
    rows = random.standard_normal((seconds * ROWS_A_SECOND, SIZES["hidden_size"])).astype(np.float32)
    before, after = (random.integers(2, 1000, size) for size in (TEXT_BEFORE, TEXT_AFTER))
    return before, rows * 0.02, after


def timed(run: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """What it gives, and its milliseconds: of CPU, and by the clock."""
    begin = _clocks()
    found = run()
    return found, _clocks() - begin


def _clocks() -> np.ndarray:
    return np.array([time.process_time(), time.perf_counter()]) * 1e3


class Timed:
    """A decoder that keeps the times of its prefill and of its steps."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.steps: list[np.ndarray] = []

    def start(self, k: int) -> Any:
        """The prefill."""
        self.first, self.prefill = timed(lambda: self.decoder.start(k))
        return self.first

    def step(self, *arguments: Any) -> Any:
        """One step."""
        found, took = timed(lambda: self.decoder.step(*arguments))
        self.steps.append(took)
        return found


def record(total: np.ndarray, prefill: np.ndarray, tokens: list[int]) -> dict[str, Any]:
    """Of one request."""
    step = (total - prefill) / (NEW_TOKENS - 1)
    found: dict[str, Any] = {"tokens": tokens}
    for name, (cpu, wall) in {"total": total, "prefill": prefill, "step": step}.items():
        found |= {name: wall, f"{name}_cpu": cpu}
    return found


class Ours:
    """The artifact under one profile."""

    def __init__(self, model: Any, profile: str) -> None:
        self.model, self.profile = model, profile

    def run(self, seconds: int, beams: int) -> dict[str, Any]:
        """One request; milliseconds of prefill, one step and all, and the tokens."""
        from fastadasp.runtime.decoding.drive import drive, new_search
        from fastadasp.runtime.decoding.options import SearchOptions

        decoder = Timed(self.model.decoder(self.profile, *prompt(seconds)))
        search = SearchOptions(num_beams=beams, max_new_tokens=NEW_TOKENS)
        found, total = timed(lambda: drive(new_search(search, SIZES["vocab_size"]), decoder))
        return record(total, decoder.prefill, list(found[0].tokens))


class Transformers:
    """The same decoder in transformers, SDPA attention."""

    def __init__(self, folder: Path, dtype: str) -> None:
        import torch
        from transformers import Qwen2AudioForConditionalGeneration

        model = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model = model.eval()

    def run(self, seconds: int, beams: int) -> dict[str, Any]:
        """One request; the prefill is timed as a request for one token."""
        tokens, total = self._generate(seconds, beams, NEW_TOKENS)
        _, prefill = self._generate(seconds, beams, 1)
        return record(total, prefill, tokens)

    def _generate(self, seconds: int, beams: int, new_tokens: int) -> tuple[list[int], np.ndarray]:
        import torch

        before, rows, after = prompt(seconds)
        embed = self.model.get_input_embeddings()
        with torch.inference_mode():
            parts = embed(torch.from_numpy(before)), torch.from_numpy(rows), embed(torch.from_numpy(after))
            embeds = torch.cat([part.to(self.model.dtype) for part in parts])[None]
            out, took = timed(
                lambda: self.model.generate(
                    inputs_embeds=embeds,
                    attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
                    num_beams=beams,
                    do_sample=False,
                    max_new_tokens=new_tokens,
                    min_new_tokens=new_tokens,
                    pad_token_id=0,
                )
            )
        return out[0].tolist()[-new_tokens:], took


def latency(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every system in turn, `runs` times, after one warm-up."""
    systems = {name: system for form in options.quantize for name, system in _ours(folder, form).items()}
    systems |= {
        f"transformers {name}": Transformers(folder / "checkpoint", DTYPES[name]) for name in options.peers
    }
    table = []
    for length in options.seconds:
        for width in options.beams:
            runners = {name: _run(system, length, width) for name, system in systems.items()}
            records = alternate(runners, options.runs)
            expected = records.get("transformers fp32", [{}])[0].get("tokens")
            for name, found in records.items():
                case = {"system": name, "seconds": length, "beams": width}
                table.append(
                    {**case, **_medians(found), "same_tokens": expected and found[0]["tokens"] == expected}
                )
            print(f"{length} s, {width} beams: done", file=sys.stderr, flush=True)
    return table


def _ours(folder: Path, form: str) -> dict[str, Ours]:
    """Both profiles of one format; packed copies of float32 can be left out as well."""
    from fastadasp.runtime import SpeechLM

    artifact, suffix = folder / f"artifact-{form}", "" if form == FORMATS[0] else f", {form}"
    model = SpeechLM.load(artifact, threads=THREADS)
    systems = {f"ours {profile}{suffix}": Ours(model, profile) for profile in PROFILES}
    if not suffix:
        systems["ours full, lean"] = Ours(SpeechLM.load(artifact, threads=THREADS, prepack=False), "full")
    return systems


def _run(system: Ours | Transformers, seconds: int, beams: int) -> Callable[[], dict[str, Any]]:
    return lambda: system.run(seconds, beams)


def alternate(systems: dict[str, Callable[[], dict[str, Any]]], runs: int) -> dict[str, list[dict[str, Any]]]:
    """Round after round, one run of each system; the first round warms up and is not counted."""
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for i in range(runs + 1):
        for name, run in systems.items():
            gc.collect()
            record = run()
            if i:
                records[name].append(record)
    return records


def _medians(records: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(r[key] for r in records) for key in records[0] if key != "tokens"}


def overhead(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Scoring and merging with nothing removed, as a share of the full prefill; and what reduction saves."""
    from fastadasp.runtime import SpeechLM

    model = SpeechLM.load(folder / f"artifact-{FORMATS[0]}", threads=THREADS)
    names = ("full", "score-constant", "score-single", "dense-constant-50")
    table = []
    for length in options.seconds:
        runners = {name: _prefill_only(model, name, length) for name in names}
        found = alternate(runners, max(5, options.runs))
        medians = {name: statistics.median(r["prefill"] for r in found[name]) for name in names}
        saved = medians["full"] - medians["dense-constant-50"]
        for name in names[1:3]:
            spent = medians[name] - medians["full"]
            record = {"share_of_full_prefill": spent / medians["full"], "per_time_saved_by_50": spent / saved}
            table.append({"schedule": name.removeprefix("score-"), "seconds": length, **record})
    return table


def _prefill_only(model: Any, profile: str, seconds: int) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        decoder = model.decoder(profile, *prompt(seconds))
        _, (_, wall) = timed(lambda: decoder.start(10))
        return {"prefill": wall}

    return run


def memory(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every combination, each in a process of its own."""
    cases = product(options.seconds, PROFILES, options.beams, (False, True))
    return [_memory(folder, profile, beams, seconds, lean) for seconds, profile, beams, lean in cases]


def _memory(folder: Path, profile: str, beams: int, seconds: int, lean: bool) -> dict[str, Any]:
    """Peak resident memory of one request, above that of the imported libraries, in its own process."""
    arguments = [str(folder), profile, str(beams), str(seconds), str(int(lean))]
    command = [sys.executable, __file__, "--memory-of", *arguments]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"profile": profile, "beams": beams, "seconds": seconds, "lean": lean, **json.loads(out.stdout)}


def memory_of(folder: str, profile: str, beams: str, seconds: str, lean: str) -> None:
    """The child process of `memory`: print its figures as JSON."""
    from fastadasp.runtime import SpeechLM
    from fastadasp.runtime.decoding.drive import drive, new_search
    from fastadasp.runtime.decoding.options import SearchOptions

    inputs = prompt(int(seconds))
    before = _status("VmRSS")
    artifact = Path(folder) / f"artifact-{FORMATS[0]}"
    model = SpeechLM.load(artifact, profile, threads=THREADS, prepack=lean == "0")
    decoder = model.decoder(profile, *inputs)
    search = SearchOptions(num_beams=int(beams), max_new_tokens=NEW_TOKENS)
    drive(new_search(search, SIZES["vocab_size"]), decoder)
    weights = sum(path.stat().st_size for path in (artifact / "weights").iterdir())
    needed = weights + decoder.cache.size_bytes
    peak = _status("VmHWM") - before
    print(json.dumps({"peak_bytes": peak, "weights_and_kv_bytes": needed, "ratio": peak / needed}))


def _status(key: str) -> int:
    """One figure of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


PARTS: dict[str, Callable[[Path, argparse.Namespace], list[dict[str, Any]]]] = {
    "latency": latency,
    "overhead": overhead,
    "memory": memory,
}


def print_tables(result: dict[str, Any]) -> None:
    """Latency with the ratios to transformers and the targets, overhead, memory."""
    from rich.console import Console

    console = Console(width=110)
    for part, table in TABLES.items():
        if part in result:
            console.print(table(result[part]["records"]))


def _latency_table(records: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(
        title="Latency, ms by the clock; times of CPU over those of transformers, and of greedy steps"
    )
    heads = (
        "audio s",
        "beams",
        "system",
        "prefill",
        "step",
        "total",
        "fp32",
        "bf16",
        "target",
        "step / greedy",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "system" else "right")
    totals = {(r["seconds"], r["beams"], r["system"]): r["total_cpu"] for r in records}
    greedy = {(r["seconds"], r["system"]): r["step_cpu"] for r in records if r["beams"] == 1}
    for r in records:
        peers = [totals.get((r["seconds"], r["beams"], f"transformers {name}")) for name in DTYPES]
        peer, target = TARGETS.get((r["system"], r["beams"]), ("", 0))
        table.add_row(
            *(str(r["seconds"]), str(r["beams"]), r["system"]),
            *(f"{r[key]:.1f}" for key in ("prefill", "step", "total")),
            *(f"{total / r['total_cpu']:.2f}x" if total else "" for total in peers),
            f"{target}x {peer}" if peer else "",
            f"{r['step_cpu'] / greedy[r['seconds'], r['system']]:.2f}" if r["beams"] > 1 and greedy else "",
        )
    return table


def _overhead_table(records: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title="Scoring and merging with nothing removed (target: constant 10 %, single 3 %)")
    for column in ("audio s", "schedule", "of the full prefill", "of the time that dense-constant-50 saves"):
        table.add_column(column)
    for r in records:
        shares = (f"{100 * r[key]:.1f} %" for key in ("share_of_full_prefill", "per_time_saved_by_50"))
        table.add_row(str(r["seconds"]), r["schedule"], *shares)
    return table


def _memory_table(records: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title="Peak resident memory above the imported libraries (target: 1.4 x weights + KV)")
    for column in ("audio s", "profile", "beams", "lean", "peak MB", "weights + KV MB", "ratio"):
        table.add_column(column)
    for r in records:
        table.add_row(
            *(str(r[key]) for key in ("seconds", "profile", "beams", "lean")),
            *(f"{r[key] / 1e6:.0f}" for key in ("peak_bytes", "weights_and_kv_bytes")),
            f"{r['ratio']:.2f}",
        )
    return table


TABLES = {"latency": _latency_table, "overhead": _overhead_table, "memory": _memory_table}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        memory_of(*sys.argv[2:])
    else:
        main()
