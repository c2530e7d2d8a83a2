"""What is measured: three models, and the parts of the benchmark, each of which has a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

NEW_TOKENS = 64
WARM_UP_TOKENS = 4
ROWS_A_SECOND = 25
TEXT_BEFORE, TEXT_AFTER = 4, 8
BEAMS = 1, 5
THREADS = 1, 2
DEMO = "demo"


@dataclass(frozen=True)
class Model:
    """A model of the benchmark."""

    title: str
    short: str
    rounds: dict[int, int]  # seconds of audio of a request -> how often all systems answer it
    sizes: dict[str, int] = field(default_factory=dict)  # of its decoder; of the demo none: it is trained
    dtype: str = "float32"  # of the numbers of its checkpoint
    alone: tuple[int, ...] = ()  # seconds at which 16 GB hold no more than one system at a time
    start_layer: int | None = None  # of profiles that reduce, where their own leaves too few layers


MODELS = {
    "decoder": Model(
        "decoder with random weights: hidden 512, 8 layers, 8 heads over 2 KV heads, FFN 2048, 16000 words",
        "decoder, 8 layers",
        {120: 3, 240: 2},
        {
            "hidden_size": 512,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "intermediate_size": 2048,
            "vocab_size": 16000,
        },
        alone=(240,),
    ),
    DEMO: Model("demo model, audio to text", "demo, audio to text", {30: 3}),
    "seven_billion": Model(
        "3 layers of the width of a 7B model: hidden 4096, 32 heads, FFN 11008, 16000 words; "
        "reduced from layer 0 on",
        "3 layers of the width of a 7B model, reduced from layer 0 on",
        {30: 2},
        {
            "hidden_size": 4096,
            "num_hidden_layers": 3,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 16000,
        },
        dtype="bfloat16",
        alone=(30,),
        start_layer=0,
    ),
}


@dataclass(frozen=True)
class Part:
    """Requests that are measured together, every system in turn."""

    model: str
    seconds: int  # of audio
    threads: int

    @property
    def alone(self) -> bool:
        """Whether systems are loaded one at a time."""
        return self.seconds in MODELS[self.model].alone

    @property
    def name(self) -> str:
        """In the result file."""
        return f"{self.model}, {self.seconds} s, threads {self.threads}"


def parts(
    models: Sequence[str] = tuple(MODELS), seconds: Sequence[int] = (), threads: Sequence[int] = THREADS
) -> Iterator[Part]:
    """Those of some models and numbers of threads; `seconds` limits them to some of the models'."""
    for count in threads:
        for model in models:
            for length in MODELS[model].rounds:
                if not seconds or length in seconds:
                    yield Part(model, length, count)


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
