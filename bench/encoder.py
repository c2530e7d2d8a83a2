r"""Audio to rows of the decoder, by two versions of the project: CPU time of log-mel and encoder.

Each version builds its own artifact of the demo model, and of encoders of the sizes of Whisper with random
weights, and runs it in a process of its own; the two take turns. Ratios are before / after, of medians of
the CPU time of the process, which other work on the machine changes least; those by the clock are beside.

    git worktree add build/before COMMIT
    python bench/encoder.py --before build/before -o bench/results/encoder.json
    python bench/encoder.py --before build/before --quantize int8 --models demo \
        -o bench/results/encoder_int8.json
    python bench/page.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import quiet
from random_checkpoint import TOY_ENCODER, write_checkpoint
from rich.console import Console
from rich.table import Table

from fastadasp.runtime.environment import environment

ROOT = Path(__file__).parent.parent
DEMO, CLIPS = ROOT / "demo" / "model", ROOT / "demo" / "clips"
RATE = 16000  # Hz
SECONDS = (3, 30, 240)
ENCODERS = {  # width, layers, heads, inner width
    "whisper-base": (512, 6, 8, 2048),
    "whisper-small": (768, 12, 12, 3072),
}
FORMATS = ("int8", "int4")
DECODER = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "vocab_size": 1000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", type=Path, metavar="TREE", help="a checkout of the earlier version")
    parser.add_argument("--models", nargs="+", default=["demo", *ENCODERS], choices=["demo", *ENCODERS])
    parser.add_argument("--seconds", type=int, nargs="+", default=SECONDS)
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--quantize", choices=FORMATS, help="the later version; otherwise float32")
    parser.add_argument("--quantize-before", choices=FORMATS, help="the earlier version; otherwise float32")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "encoder.json")
    parser.add_argument("--serve", nargs=2, metavar=("ARTIFACT", "THREADS"), help=argparse.SUPPRESS)
    quiet.add_option(parser)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), int(options.serve[1]))
        return
    quiet.refuse_busy(parser, options)
    if options.before is None:
        parser.error("--before TREE is needed: git worktree add build/before COMMIT")
    trees = {"before": options.before.resolve(), "after": ROOT.resolve()}
    before = environment(max(options.threads))
    records = [record for model in options.models for record in measured(model, trees, options)]
    result = {
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "quantize": {"before": options.quantize_before, "after": options.quantize},
        "runs": options.runs,
        "environment": asdict(before),
        "records": records,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    show(records)


def measured(model: str, trees: dict[str, Path], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record for each number of threads and length of audio."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        packages = {name: package_of(tree, folder / name) for name, tree in trees.items()}
        checkpoint = DEMO if model == "demo" else random_model(folder / "checkpoint", model)
        formats = {"before": options.quantize_before, "after": options.quantize}
        for name, package in packages.items():
            build(package, checkpoint, folder / f"artifact-{name}", formats[name])
        for threads in options.threads:
            with ExitStack() as stack:
                workers = {
                    name: stack.enter_context(worker(package, folder / f"artifact-{name}", threads))
                    for name, package in packages.items()
                }
                for seconds in options.seconds:
                    found = alternate(workers, seconds, options.runs, folder)
                    yield {"model": model, "threads": threads, "seconds": seconds, **found}


def package_of(tree: Path, folder: Path) -> Path:
    """What makes `fastadasp` this tree when it is in PYTHONPATH."""
    folder.mkdir()
    (folder / "fastadasp").symlink_to(tree, target_is_directory=True)
    return folder


def random_model(folder: Path, name: str) -> Path:
    """A checkpoint with this encoder and hardly any decoder."""
    width, layers, heads, inner = ENCODERS[name]
    sizes = {"d_model": width, "encoder_layers": layers, "encoder_attention_heads": heads}
    write_checkpoint(folder, DECODER, encoder={**TOY_ENCODER, **sizes, "encoder_ffn_dim": inner})
    return folder


def build(package: Path, checkpoint: Path, artifact: Path, quantize: str | None) -> None:
    """As the command line of that version builds it."""
    words = ["build", checkpoint, "-o", artifact, "--profile", "full"]
    words += ["--quantize", quantize] if quantize else []
    command = [sys.executable, "-P", "-m", "fastadasp.export", *map(str, words)]
    subprocess.run(command, env=variables(package), check=True, stdout=subprocess.DEVNULL)


def variables(package: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(package)}


@contextmanager
def worker(package: Path, artifact: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A process of that version which answers requests, one a line."""
    command = [sys.executable, __file__, "--serve", str(artifact), str(threads)]
    with subprocess.Popen(
        command, env=variables(package), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def serve(artifact: Path, threads: int) -> None:
    """Lines of seconds and the file for the rows; answers are CPU and clock milliseconds.

    The audio is the demo's clips behind one another, over and over: rows of noise depend on the last bit.
    """
    from fastadasp.runtime import SpeechLM
    from fastadasp.runtime.audio.read import load_audio

    spoken = np.concatenate([load_audio(clip, RATE).samples for clip in sorted(CLIPS.glob("*.flac"))])
    with SpeechLM.load(artifact, threads=threads) as model:
        for line in sys.stdin:
            seconds, rows = line.split()
            samples = np.resize(spoken, int(seconds) * RATE)
            clock, cpu = time.perf_counter(), time.process_time()
            found = model.encode(samples)
            clock = time.perf_counter() - clock
            time.sleep(0.1)  # what threads do after the answer counts
            np.save(rows, found.rows)
            print((time.process_time() - cpu) * 1e3, clock * 1e3, flush=True)


def alternate(
    workers: dict[str, subprocess.Popen[str]], seconds: int, runs: int, folder: Path
) -> dict[str, Any]:
    """Medians of each version and the ratio; the first round warms up and is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for i in range(runs + 1):
        for name, process in workers.items():
            print(seconds, folder / f"{name}.npy", file=process.stdin, flush=True)
            cpu, clock = map(float, process.stdout.readline().split())  # type: ignore[union-attr]
            if i:
                times[name].append((cpu, clock))
    cpu, clock = (
        {name: round(statistics.median(t[part] for t in found), 2) for name, found in times.items()}
        for part in (0, 1)
    )
    ratios = {"ratio": round(cpu["before"] / cpu["after"], 3)}
    ratios["clock_ratio"] = round(clock["before"] / clock["after"], 3)
    rows = [np.load(folder / f"{name}.npy") for name in workers]
    moved = float(np.abs(rows[0] - rows[1]).max() / rows[0].std())
    return {"cpu_ms": cpu, "clock_ms": clock, **ratios, "rows": len(rows[0]), "moved": moved}


def commit(tree: Path) -> str:
    """That of a checkout, with a plus where files differ from it."""
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty=+", "--abbrev=12"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def show(records: list[dict[str, Any]]) -> None:
    """Print a table."""
    heads = (
        "model",
        "threads",
        "audio s",
        "before CPU ms",
        "after CPU ms",
        "ratio",
        "by the clock",
        "rows moved",
    )
    table = Table(*heads, box=None)
    for r in records:
        cells = (
            r["model"],
            r["threads"],
            r["seconds"],
            r["cpu_ms"]["before"],
            r["cpu_ms"]["after"],
            r["ratio"],
        )
        table.add_row(*map(str, cells), str(r["clock_ratio"]), f"{r['moved']:.0e}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
