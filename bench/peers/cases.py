"""What is measured: three models, and the requests to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

NEW_TOKENS = 64
ROWS_A_SECOND = 25
TEXT_BEFORE, TEXT_AFTER = 4, 8
BEAMS = 1, 5
DEMO = "demo"


@dataclass(frozen=True)
class Model:
    """A model of the benchmark."""

    title: str
    seconds: tuple[int, ...]  # of audio, of its requests
    sizes: dict[str, int] = field(default_factory=dict)  # of its decoder; of the demo none: it is trained
    stays_loaded: bool = True  # in all processes at once; otherwise each loads it for its turn
    leaves_out: tuple[str, ...] = ()  # systems that have no room or sense here


MODELS = {
    "decoder": Model(
        "decoder with random weights: hidden 512, 8 layers, 8 heads over 2 KV heads, FFN 2048, 16000 words",
        (120, 240),
        {
            "hidden_size": 512,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "intermediate_size": 2048,
            "vocab_size": 16000,
        },
    ),
    "seven_billion": Model(
        "3 layers of the shape of 7 billion parameters: hidden 4096, 32 heads, FFN 11008, 16000 words",
        (30,),
        {
            "hidden_size": 4096,
            "num_hidden_layers": 3,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 16000,
        },
        stays_loaded=False,
    ),
    DEMO: Model("demo model, audio to text", (30,)),
}


def requests(model: str, seconds: list[int] | None, beams: list[int]) -> Iterator[tuple[int, int]]:
    """Seconds of audio and beams of each request; `seconds` limits them to some of the model's."""
    for length in MODELS[model].seconds:
        if seconds is None or length in seconds:
            yield from ((length, width) for width in beams)


def prompt(sizes: dict[str, int], seconds: int) -> tuple[Any, npt.NDArray[np.float32], Any]:
    """Token ids before, audio rows, token ids after: what takes rows of audio gets these."""
    random = np.random.default_rng(seconds)
    rows = random.standard_normal((seconds * ROWS_A_SECOND, sizes["hidden_size"])).astype(np.float32)
    before, after = (random.integers(2, 1000, size) for size in (TEXT_BEFORE, TEXT_AFTER))
    return before, rows * 0.02, after


def token_ids(seconds: int) -> npt.NDArray[np.int64]:
    """As many ids as that prompt has rows: what takes ids alone gets these."""
    rows = TEXT_BEFORE + seconds * ROWS_A_SECOND + TEXT_AFTER
    return np.random.default_rng(seconds).integers(2, 1000, rows)
