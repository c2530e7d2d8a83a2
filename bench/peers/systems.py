"""The peers by name: what runs each, in which formats, on which models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from peers.cases import DEMO, MODELS, Part

PLAIN = ("",)
DECODERS = tuple(name for name in MODELS if name != DEMO)
BASE, OURS = "transformers bf16", "ours"  # what all are compared with, and the peer that is this project


@dataclass(frozen=True)
class Peer:
    """One library."""

    module: str  # of this package
    forms: tuple[str, ...]  # of weights and products, as the module calls them
    environment: str = ""  # one of `install.ENVIRONMENTS`; this one if empty
    variants: tuple[str, ...] = PLAIN  # ways to run what is loaded
    models: tuple[str, ...] = tuple(MODELS)


@dataclass(frozen=True)
class System:
    """One process: a peer with weights in one format."""

    peer: str
    form: str

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.peer} {self.form}"

    def titles(self) -> Iterator[tuple[str, str]]:
        """Its variants, and what they are called in the tables."""
        for variant in PEERS[self.peer].variants:
            yield variant, f"{self.name}, {variant}" if variant else self.name


PEERS = {
    "transformers": Peer("huggingface", ("fp32", "bf16")),
    OURS: Peer(
        "ours",
        ("onnxruntime fp32", "onnxruntime int8", "openvino bf16", "openvino bf16, int8 steps"),
        variants=("full", "dense-constant-50"),
    ),
    "onnxruntime-genai": Peer("genai", ("fp32", "int4"), "genai", models=DECODERS),
    "optimum-intel": Peer("optimum", ("bf16", "int8"), "optimum", models=DECODERS),
    "llama.cpp": Peer("llama", ("BF16", "Q8_0", "Q4_0"), "llama", ("", "flash"), DECODERS),
}


SLOWEST, FLASH = "transformers fp32", "llama.cpp *, flash"
LARGEST = "ours openvino bf16, full", "ours openvino bf16, dense-constant-50"  # 13 GB of 7 billion's shape
LEFT_OUT: dict[tuple[Part, int], tuple[str, ...]] = {  # part and beams -> patterns of rows
    (Part("decoder", 120, 2), 1): (FLASH,),
    (Part("decoder", 120, 2), 5): (FLASH,),
    (Part("decoder", 240, 2), 5): (SLOWEST,),
    (Part("seven_billion", 30, 1), 1): LARGEST,
    (Part("seven_billion", 30, 1), 5): (*LARGEST, SLOWEST),
    (Part("seven_billion", 30, 2), 1): LARGEST,
    (Part("seven_billion", 30, 2), 5): (*LARGEST, SLOWEST),
}
"""What takes minutes and tells little beside the other rows: it is not run, and the table says so.

With long prefixes and large layers either attention of llama.cpp may be its better one: both are run.
"""


def systems(model: str, peers: Sequence[str] = tuple(PEERS)) -> list[System]:
    """Those that a model is measured with."""
    chosen = [name for name in PEERS if name in peers and model in PEERS[name].models]
    return [System(name, form) for name in chosen for form in PEERS[name].forms]


def is_asked(part: Part, beams: int, title: str) -> bool:
    """Whether a row of the table of a part is measured."""
    return not any(fnmatch(title, pattern) for pattern in LEFT_OUT.get((part, beams), ()))
