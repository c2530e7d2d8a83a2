"""What 4 bits cost the demo model by each way to quantise: the logits, and the words of the evaluation sets.

    python demo/evaluation_sets.py && python demo/calibration_clips.py
    python bench/quantizers.py logits -o bench/results/quantizers_logits.json
    python bench/quantizers.py words -o bench/results/quantizers_words.json
    python bench/quantizers.py encoder -o bench/results/quantizers_encoder.json

The error of the logits is that of the stored numbers alone, without the rounding of activations: mean square
of the difference from float32, over the answers of every few questions of all sets. Words are those that
artifacts give under `full`. The error of the encoder is that of its audio rows, of the calibration clips,
with activations rounded as well: root mean square, relative to that of the rows in float32.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from fastadasp.evaluation.clips.clip import Clip
from fastadasp.evaluation.clips.read import read_clips, read_clips_of_any_task
from fastadasp.evaluation.evaluation import evaluate
from fastadasp.evaluation.options import EvalOptions
from fastadasp.evaluation.result import evaluation_result
from fastadasp.export import pipeline
from fastadasp.export.calibration.calibrate import calibrated
from fastadasp.export.calibration.clips import Calibration, audio_encoder, prompt_rows
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.derived import Derived, Weight
from fastadasp.export.checkpoint.int4 import Parts, in_blocks, packed_parts, searched
from fastadasp.export.checkpoint.quantized import (
    QuantizedWeight,
    blocks_of_int4,
    blocks_of_int8,
    int4_blocks,
    int8_rows,
    rows_of_int8,
)
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.formats import INT4_BLOCKS
from fastadasp.export.model.quantize import block_of, int4_matrices, quantized
from fastadasp.export.model.spec import Linear, SpeechModelSpec, with_parts
from fastadasp.export.options import BuildOptions
from fastadasp.export.reference.dequantized import dequantized
from fastadasp.export.reference.spec_decoder import SpecDecoder
from fastadasp.profiles import load_profile
from fastadasp.runtime.environment import environment
from fastadasp.runtime.runtime_options import runtime_options

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "demo" / "model"
SETS = ("human", "human-30", "synthetic", "synthetic-30")
WORD_SETS = ("human",)
NAMES = {"int4": ("values", "scales", "zero_points"), "int8": ("values", "scales")}
THREADS = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=("logits", "words", "encoder"))
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "quantizers.json")
    parser.add_argument("--sets", type=Path, default=ROOT / "build" / "evaluation")
    parser.add_argument("--calibration", type=Path, default=ROOT / "build" / "calibration" / "clips.jsonl")
    parser.add_argument("--every", type=int, default=40, help="of the questions, for the logits")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    checkpoint = Checkpoint(MODEL)
    model = load_model(checkpoint)
    clips = read_clips_of_any_task(options.calibration)
    if options.part == "encoder":
        rows = list(encoder_rows(model, checkpoint, clips))
    elif options.part == "words":
        rows = list(words_of(quantized_by(model, checkpoint, clips), options.sets))
    else:
        every = slice(None, None, options.every)
        heard = [c for s in SETS for c in read_clips_of_any_task(options.sets / f"{s}.jsonl")[every]]
        rows = list(logits_of(model, checkpoint, quantized_by(model, checkpoint, clips), heard))
    result = {"calibration_clips": len(clips), options.part: rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {**result, "environment": environment(THREADS, ("torch",)).__dict__}, indent=1, default=str
    )
    options.output.write_text(f"{text}\n", "utf-8")
    show(options.part, rows)


@dataclass(frozen=True)
class Method:
    """Every matrix as one method quantises it; None for one in 8 bits."""

    parts: Mapping[str, Parts | None]
    seconds: float  # of CPU


def quantized_by(model: SpeechModelSpec, checkpoint: Checkpoint, clips: Sequence[Clip]) -> dict[str, Method]:
    """All methods."""
    weights = int4_matrices(model)
    ways = {
        "rounding": lambda: {weight.name: int4_blocks(weight.read(), INT4_BLOCKS[0]) for weight in weights},
        "search": lambda: {weight.name: by_search(weight) for weight in weights},
        "calibration": lambda: calibrated(model, checkpoint, clips, INT4_BLOCKS[0], threads=THREADS),
    }
    found = {}
    for name, way in ways.items():
        begin = time.process_time()
        found[name] = Method(way(), time.process_time() - begin)
    return found


def by_search(weight: Weight) -> Parts:
    """Every number at the nearest step of the grid of least squared error."""
    blocks = in_blocks(weight.read(), INT4_BLOCKS[0])
    grid = searched(blocks)
    return packed_parts(blocks, grid.nearest(blocks), grid)


def logits_of(
    model: SpeechModelSpec, checkpoint: Checkpoint, methods: Mapping[str, Method], clips: Sequence[Clip]
) -> Iterator[dict[str, Any]]:
    """A row for each method; further ones tell apart what calibration does: its 4 bits, and its 8 bits."""
    exact = logits(model, checkpoint, clips)
    fewest = {
        name: methods["rounding"].parts[name] if parts is None else parts
        for name, parts in methods["calibration"].parts.items()
    }
    sensitive = {name for name, parts in methods["calibration"].parts.items() if parts is None}
    ways = {name: method.parts for name, method in methods.items()} | {
        "calibration, those of 8 bits rounded to 4": fewest,
        "rounding, the same in 8 bits": {
            name: None if name in sensitive else parts for name, parts in methods["rounding"].parts.items()
        },
    }
    for name, parts in ways.items():
        found = logits(standing_for(model, parts), checkpoint, clips)
        yield {
            "method": name,
            "squared_error": float(np.square(found - exact).mean()),
            "same_best": float((found.argmax(1) == exact.argmax(1)).mean()),
            "tokens": len(exact),
            "in_4_bits": sum(it is not None for it in parts.values()),
        }


def standing_for(model: SpeechModelSpec, parts: Mapping[str, Parts | None]) -> SpeechModelSpec:
    """The model with the numbers that these matrices stand for."""

    def change(weight: Weight) -> Weight:
        if weight.name not in parts:
            return weight
        if (mine := parts[weight.name]) is None:
            form, mine = "int8", int8_rows(weight.read())
        else:
            form = f"int4.{INT4_BLOCKS[0]}"
        named = zip(NAMES[form[:4]], mine, strict=False)
        tensors = {f"w.{form}.{part}": torch.from_numpy(it) for part, it in named}
        numbers = dequantized(tensors)["w"].numpy()[:, : weight.shape[1]]
        return Derived(f"{weight.name}.4", weight.shape, (), lambda: numbers)

    return with_matrices(model, change)


def with_matrices(
    model: SpeechModelSpec, change: Callable[[Weight], Weight | QuantizedWeight]
) -> SpeechModelSpec:
    """A model with the weight of every linear layer of encoder and decoder changed."""

    def changed(linear: Linear) -> Linear:
        weight = linear.weight
        return linear if isinstance(weight, QuantizedWeight) else replace(linear, weight=change(weight))

    encoder, decoder = (with_parts(part, Linear, changed) for part in (model.encoder, model.decoder))
    return replace(model, encoder=encoder, decoder=decoder)


def logits(model: SpeechModelSpec, checkpoint: Checkpoint, clips: Sequence[Clip]) -> np.ndarray:
    """Of every token of the right answers, and of their ends: (tokens, vocabulary)."""
    decoder, found = SpecDecoder(model.decoder), []
    norm, head = (torch.from_numpy(w.read()) for w in (model.decoder.final_norm, model.decoder.head.weight))
    with torch.no_grad(), audio_encoder(model, THREADS) as encoder:
        calibration = Calibration(checkpoint, model, encoder)
        for clip in map(calibration.read, clips):
            prompt, _ = prompt_rows(decoder, model, clip)
            x = torch.cat([prompt, decoder.embed(clip.answer)])
            for layer in range(decoder.num_layers):
                x = decoder.block(layer, x)
            last = torch.nn.functional.rms_norm(
                x[len(prompt) - 1 :], norm.shape, norm, model.decoder.norm_eps
            )
            found.append((last @ head.T).numpy())
    return np.concatenate(found)


def encoder_rows(
    model: SpeechModelSpec, checkpoint: Checkpoint, clips: Sequence[Clip]
) -> Iterator[dict[str, Any]]:
    """A row for each form that the matrices of the encoder could have."""
    exact = audio_rows(model, checkpoint, clips)
    forms: dict[str, Callable[[Weight], QuantizedWeight]] = {
        "int8, a scale for each output": rows_of_int8,
        "int8 in blocks of 64": lambda weight: blocks_of_int8(weight, block_of(weight, 64)),
        "int4 in blocks of 32": lambda weight: blocks_of_int4(weight, block_of(weight, 32)),
    }
    encoders = {name: with_matrices(model, form).encoder for name, form in forms.items()}
    for name, encoder in {"as built": quantized(model, "int8").encoder, **encoders}.items():
        found = audio_rows(replace(model, encoder=encoder), checkpoint, clips)
        error = float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))
        yield {"form": name, "error": error, "rows": len(exact)}


def audio_rows(model: SpeechModelSpec, checkpoint: Checkpoint, clips: Sequence[Clip]) -> np.ndarray:
    """Of all clips: (rows, hidden_size)."""
    with audio_encoder(model, THREADS) as encoder:
        calibration = Calibration(checkpoint, model, encoder)
        return np.concatenate([calibration.read(clip).audio for clip in clips])


def words_of(methods: Mapping[str, Method], sets: Path) -> Iterator[dict[str, Any]]:
    """Word error rates of an artifact for each method, and of one in float32."""
    runtime = runtime_options(threads=THREADS)
    for name in ("float32", "rounding", "calibration"):
        method = methods.get(name)
        artifact = ROOT / "build" / "quantizers" / name
        shutil.rmtree(artifact, ignore_errors=True)
        options = BuildOptions((load_profile("full"),), quantize=None if method is None else "int4")
        with patch.object(pipeline, "_calibrated", return_value={} if method is None else method.parts):
            artifact.parent.mkdir(parents=True, exist_ok=True)
            pipeline.build(MODEL, artifact, options)
        for each in WORD_SETS:
            clips = read_clips(sets / f"{each}.jsonl", "asr")
            found = evaluate(artifact, clips, EvalOptions(runtime=runtime))
            figure = evaluation_result(found).profiles[0].figures["wer"]
            yield {"method": name, "set": each, "wer": figure.value, "low": figure.low, "high": figure.high}
            print(name, each, figure, flush=True)


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table."""
    table = Table(*rows[0], title=title, box=None)
    for row in rows:
        table.add_row(*(f"{it:.4g}" if isinstance(it, float) else str(it) for it in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
