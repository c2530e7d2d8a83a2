"""What a build is asked for, checked once; quick to import, so that a command line has defaults."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..profiles.errors import EngineError, OutputError, ProfileError, RequestError
from ..profiles.faults import count_faults, is_count, shown, text_fault
from ..profiles.profile import Profile
from ..runtime.choice.target import AUTO
from ..runtime.decoding.options import MOST_BEAMS, MOST_NEW_TOKENS
from .model.formats import INT4_BLOCKS, QUANTIZED, int4_block_faults
from .targets import TARGETS

if TYPE_CHECKING:  # quick to import: a clip comes with hashing
    from ..evaluation.clips.clip import Clip
    from ..profiles.signature import WordHeads

PRECISIONS = ("fp32", "fp16", "bf16")
ENGINE_PRECISIONS = ("fp16", "bf16")
"""TensorRT has no fused attention for fp32."""
RTX, BUILT_IN_PLACE = "tensorrt-rtx", "tensorrt"
"""What builds engines: for any GPU, and for the GPU that it runs on."""
PRODUCTS = {RTX: "tensorrt_rtx", BUILT_IN_PLACE: "tensorrt"}
"""What builds engines, and its Python module."""
ENGINES = tuple(PRODUCTS)
WEIGHT_MODES = ("link", "copy")
KV_PRECISIONS = ("fp16",)

LEAST_AUDIO_SECONDS = 1.0
_LEAST = {"sm": 80, "max_beams": 1, "max_batch": 1, "max_text_rows": 1, "max_new_tokens": 1}
_MOST = {"max_beams": MOST_BEAMS, "max_new_tokens": MOST_NEW_TOKENS}


@dataclass(frozen=True)
class EngineOptions:
    """What engines are built for. Raises EngineError with every fault."""

    engine: str = ENGINES[0]
    sm: int = 80  # compute capability, times ten: 80 is the A100
    precision: str = "bf16"
    max_audio_seconds: float = 240.0
    max_beams: int = 8
    max_batch: int = 8  # requests that share a decode step
    max_text_rows: int = 256  # before the audio, and after it
    max_new_tokens: int = 256
    reproducible: bool = False  # the same bytes on every build: one core, real-time scheduling

    def __post_init__(self) -> None:
        if faults := list(_engine_faults(self)):
            raise EngineError("; ".join(faults))


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for.

    Raises:
        ProfileError: no profile, two of one name, or one whose name asks for a choice.
        OutputError: an unknown way for the weights to get into the artifact.
        RequestError: no target, an unknown one, or one twice; a number of positions or a prompt that is none.
    """

    profiles: tuple[Profile, ...]
    weights: str = "link"
    force: bool = False
    engines: EngineOptions | None = None
    targets: tuple[str, ...] = ("onnxruntime",)  # files for the first have plain names
    prompt: str | None = None  # the default one of the artifact
    max_positions: int | None = None  # more than the checkpoint has; its own if None
    fold_prompt: str | None = None  # the only prompt, whose LoRA goes into the weights
    lora: Path | None = None  # folder of an adapter of peft that is folded into the weights
    precision: str | None = None  # of graphs whose target has a choice; None: its default
    int4_block: int = INT4_BLOCKS[0]  # inputs that share a scale in graphs for ONNX Runtime, of INT4_BLOCKS
    quantize: str | None = None  # what the large matrices are stored in, one of QUANTIZED; None: as they are
    kv_precision: str | None = (
        None  # of the prompt's keys and values, one of KV_PRECISIONS; None: as computed
    )
    row_maps: bool = False  # prefills say where the rows come from that they leave, which costs time
    word_heads: WordHeads | None = None  # by whose attention words are given times; row maps come with it
    calibration: tuple[Clip, ...] | None = None  # by which int4 is quantised; None: by the matrices alone

    def __post_init__(self) -> None:
        names = [profile.name for profile in self.profiles]
        if not names:
            raise ProfileError("no profile is given; the unreduced model is: --profile full")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ProfileError(
                f"profile {', '.join(twice)} is given twice; names must differ within an artifact"
            )
        if AUTO in names:
            raise ProfileError(f"profile {AUTO}: requests give this word to have one chosen; rename the file")
        if self.weights not in WEIGHT_MODES:
            raise OutputError(f"weights {self.weights!r} is unknown; choose {', '.join(WEIGHT_MODES)}")
        if self.prompt is not None and (faults := list(text_fault("prompt", self.prompt))):
            raise RequestError("; ".join(faults))
        if self.quantize is not None and self.quantize not in QUANTIZED:
            raise RequestError(f"quantize {self.quantize!r} is unknown; choose {', '.join(QUANTIZED)}")
        if faults := list(int4_block_faults(self.quantize, self.int4_block)):
            raise RequestError("; ".join(faults))
        if self.int4_block != INT4_BLOCKS[0] and self.engines:
            raise RequestError(
                f"int4_block {self.int4_block}: engines have blocks of their own; leave it out, or give no "
                "engine"
            )
        if self.kv_precision is not None and self.kv_precision not in KV_PRECISIONS:
            raise RequestError(
                f"kv_precision {self.kv_precision!r} is unknown; choose {', '.join(KV_PRECISIONS)}"
            )
        if faults := list(_told_faults(self)):
            raise RequestError("; ".join(faults))
        if self.calibration is not None and self.quantize != "int4":
            raise RequestError(
                f"calibration beside {self.quantize or 'no format'}: only int4 is quantised by clips; leave "
                "it out, or give quantize int4"
            )
        if self.calibration is not None and self.engines:
            raise RequestError(
                "calibration beside engines: their int4 has no zero points and is rounded; build without one "
                "of them"
            )
        if self.calibration == ():
            raise RequestError("no clip to calibrate with: name some in the clip list")
        if unknown := [repr(name) for name in self.targets if name not in TARGETS]:
            raise RequestError(f"target {', '.join(unknown)} is unknown; choose {', '.join(TARGETS)}")
        if faults := list(_target_faults(self)):
            raise RequestError("; ".join(faults))
        if self.max_positions is not None and not is_count(self.max_positions, 1):
            raise RequestError(f"max_positions is {shown(self.max_positions)}: give a whole number above 0")
        if self.fold_prompt is not None and self.prompt not in (None, self.fold_prompt):
            raise RequestError(
                f"prompt {shown(self.prompt)} beside fold_prompt {shown(self.fold_prompt)}: an artifact for "
                "one prompt has no other default; leave it out"
            )
        if self.fold_prompt is not None and (faults := list(text_fault("fold_prompt", self.fold_prompt))):
            raise RequestError("; ".join(faults))
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise RequestError(
                f"targets {', '.join(self.targets) or 'none'}: give at least one, and each once"
            )


def _told_faults(options: BuildOptions) -> Iterator[str]:
    """What graphs for the default target alone tell beside an answer, where others are asked for, too."""
    others = [name for name in options.targets if name not in BuildOptions.targets]
    if options.engines:
        others.append("engines")
    alone, asked = ", ".join(BuildOptions.targets), list[tuple[str, str]]()
    if options.word_heads is not None:
        asked.append(("word heads", "where heads look"))
    if options.row_maps:
        asked.append(("row maps", "where rows come from"))
    for name, told in asked if others else ():
        yield (
            f"{name.replace(' ', '_')}: graphs for {alone} alone say {told}, not {', '.join(others)}; "
            f"build two artifacts, that with {name} for {alone}"
        )


def _target_faults(options: BuildOptions) -> Iterator[str]:
    """What the targets cannot give, or nothing that is built."""
    targets = {name: TARGETS[name] for name in options.targets}
    if options.precision is not None:
        choice = {precision for target in targets.values() for precision in target.precisions}
        if options.precision not in choice:
            yield (
                f"precision {options.precision}: graphs for {', '.join(targets)} are "
                f"{', '.join(name for name in PRECISIONS if name in choice)}; give one of these"
            )
    if options.quantize and len(targets) > 1:
        yield (
            f"quantize {options.quantize}: each of {', '.join(targets)} has matrices in forms of its own; "
            "build an artifact for each"
        )
    for name, target in targets.items():
        if options.quantize and options.engines and not target.rounds_rows:
            yield (
                f"quantize {options.quantize}: engines have matrices of other forms than graphs for {name}; "
                "build an artifact for each"
            )
        if options.kv_precision and len(target.precisions) > 1:
            yield (
                f"kv_precision {options.kv_precision}: keys and values of graphs for {name} are in the "
                "numbers that these compute in; give precision instead"
            )


def _engine_faults(options: EngineOptions) -> Iterator[str]:
    if options.engine not in ENGINES:
        yield f"engine {options.engine!r} is unknown; choose {', '.join(ENGINES)}"
    if options.precision not in ENGINE_PRECISIONS:
        yield f"precision {options.precision}: TensorRT has no fused attention for it; choose bf16 or fp16"
    if not LEAST_AUDIO_SECONDS <= options.max_audio_seconds < math.inf:
        least = f"{LEAST_AUDIO_SECONDS:g}"
        yield f"max_audio_seconds is {options.max_audio_seconds:g}: give a number of at least {least}"
    yield from count_faults(options, _LEAST, _MOST)
