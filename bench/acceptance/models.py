"""The models of the latency table, with random weights in bf16: times need sizes and no skill."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .checkout import ROOT

Shapes = Mapping[str, tuple[int, ...]]
ONE, SPREAD = 0x3F80, 0.02  # 1.0 in bf16; the standard deviation of weights
NOISE = 1 << 24  # random numbers that all matrices are cut from
ITEM = 2  # bytes
DEMO = ROOT / "demo/model"


@dataclass(frozen=True)
class Model:
    """A checkpoint that is made on the spot."""

    name: str
    write: Callable[[Path], None]
    seconds: float  # to write, build and load it
    seconds_a_case: float  # for one length of audio and one number of beams, all profiles
    options: tuple[str, ...] = ()  # of `build`
    is_of_the_paper: bool = False  # its size is that of the paper's Table 12


def _write_small(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "bench"))
    from engine_build import SIZES
    from random_checkpoint import write_checkpoint

    write_checkpoint(folder, SIZES, "bfloat16")


def _write_wavllm(folder: Path) -> None:
    """Names and shapes are those of the definition in torch that the tests have."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fastadasp.export.model.families.parts.wavllm_original import config_of
    from torch_wavllm import seven_billion_shapes

    shapes = seven_billion_shapes()
    write_checkpoint(folder, config_of(shapes, lambda text: [518] * len(text.split())), shapes)


def _write_qwen2_audio(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "bench"))
    from seven_billion import TEXT, settings, shapes

    layers = TEXT["num_hidden_layers"]
    write_checkpoint(folder, settings(layers), dict(shapes(layers)))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO / name, folder / name)


MODELS = (
    Model("24 layers of width 1024", _write_small, 25, 5),
    Model("WavLLM of 7B", _write_wavllm, 80, 15, ("--max-positions", "4096"), is_of_the_paper=True),
    Model("Qwen2-Audio of 7B", _write_qwen2_audio, 90, 20),
)
"""In order of worth."""


def write_checkpoint(folder: Path, config: Mapping[str, Any], shapes: Shapes) -> None:
    """`config.json`, and a file of weights in safetensors' form: norms of one, the rest small and random."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    ends = list(accumulate((ITEM * prod(shape) for shape in shapes.values()), initial=0))
    places = zip(shapes.items(), pairwise(ends), strict=True)
    header = {
        name: {"dtype": "BF16", "shape": shape, "data_offsets": place} for (name, shape), place in places
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = _noise()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for i, (name, shape) in enumerate(shapes.items()):
            for part in _content(noise, name, prod(shape), i):
                file.write(part.data)


def _content(noise: np.ndarray, name: str, count: int, i: int) -> Iterator[np.ndarray]:
    """The numbers of one tensor, piece by piece; each tensor begins at a place of its own."""
    if "norm" in name and name.endswith("weight"):
        yield np.full(count, ONE, np.uint16)
        return
    place = 104729 * i % (NOISE // 2)
    while count:
        piece = noise[place : place + count]
        yield piece
        count -= len(piece)
        place = 0


def _noise() -> np.ndarray:
    """Bits of bf16: (NOISE,)."""
    numbers = np.random.default_rng(0).standard_normal(NOISE, np.float32) * np.float32(SPREAD)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)
