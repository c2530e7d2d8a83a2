"""What the manifest says of TensorRT plans: what they were built for, from what, and for which shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ...profiles.flops import ResolvedProfile

Shape = tuple[int, ...]
ENCODER, WAVE_ENCODER = "encoder", "wave_encoder"
DECODE, PROMPT_ADAPTER = "decode", "prompt_adapter"
"""Names of engines; each profile has a prefill, see `prefill_engine`."""


@dataclass(frozen=True)
class Machine:
    """What a machine must be to run a plan."""

    product: str  # the Python module: tensorrt_rtx or tensorrt
    version: str  # of the product, such as 1.7.1.116
    sm: int  # compute capability, times ten: 80 is the A100


@dataclass(frozen=True)
class EngineRecord:
    """One plan, and the shapes that it was built for: least, usual and largest of each input.

    Of an input that shapes depend on, the values stand in place of the shape.
    """

    file: str
    graph_sha256: str  # of the ONNX graph that it was built from; the plan's own name ends with it
    input_ratio: Fraction  # of a prefill: the share of the rows that goes before the first layer
    layer_ratios: tuple[Fraction, ...]  # and that each layer removes
    seconds: float  # that the build took
    peak_bytes: int | None  # resident memory of the build at its largest
    plugin_layers: Mapping[str, int]
    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    quantized: Mapping[str, int] = field(default_factory=dict)  # "int8" or "int4" -> matrices in it


@dataclass(frozen=True)
class Engines:
    """The plans of an artifact, and what they have in common."""

    machine: Machine  # that runs them
    precision: str  # bf16, fp16
    plugin_library: str | None
    plugin_abi: str  # version of the plugins that the plans ask for
    max_beams: int
    max_batch: int  # requests that share a decode step
    max_audio_seconds: float
    max_audio_rows: int
    max_text_rows: int  # before the audio, and after it
    max_new_tokens: int
    reproducible: bool  # whether a build like this gives the same bytes again
    verified_on: str | None  # the GPU on which they ran and agreed with the reference
    plans: Mapping[str, EngineRecord]  # by the name of the engine


def prefill_engine(profile: str) -> str:
    """The name of a profile's prefill engine."""
    return f"prefill.{profile}"


@dataclass(frozen=True)
class ChangedPlace:
    """A place where rows are removed, by another share than that of the profile."""

    place: str
    found: Fraction
    wanted: Fraction


def changed_place(
    resolved: ResolvedProfile, at_input: Fraction, in_layers: Sequence[Fraction]
) -> ChangedPlace | None:
    """The first place that removes another share of the rows than its profile says, if one does.

    The last layer does not count: only its last row is computed, so nothing is removed there.
    """
    places = ["the input", *(f"layer {layer}" for layer in range(len(in_layers)))]
    wanted = [resolved.input_ratio, *resolved.ratios[:-1]]
    shares = zip(places, [at_input, *in_layers], wanted, strict=False)
    return next((ChangedPlace(*each) for each in shares if each[1] != each[2]), None)


def plan_name(name: str, graph_sha256: str) -> str:
    """The name that a plan carries inside: which engine it is, and of which graph."""
    return f"{name} {graph_sha256}"
