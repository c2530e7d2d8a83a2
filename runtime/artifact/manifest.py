"""The manifest: all that a runtime needs to know about an artifact, as JSON and as frozen records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...profiles.codec import RecordError, from_json, to_json
from ...profiles.errors import ArtifactError
from ...profiles.faults import shown
from ...profiles.flops import DecoderDims, ResolvedProfile
from ...profiles.json_text import JsonError, read_object
from ...profiles.long_context import LongContext
from ...profiles.signature import ACTIVATION, HALF, TensorSpec, WordHeads, lora_scale
from ..audio.front_end import FrontEnd
from ..audio.tower_dims import TowerDims
from ..choice.figures import Figures
from ..decoding.options import NOTHING_GIVEN, SearchOptions
from .engines import Engines
from .prompt import Prompt

MANIFEST_FORMAT = 13
FILE_NAME = "manifest.json"
FIGURES = "figures"
PREFIX_TYPES = {"fp16": HALF}
"""What keys and values of a prompt may be kept in, if not in the precision of the graphs -> their type."""


@dataclass(frozen=True)
class FoldedPrompt:
    """The only prompt that weights are for, into which its LoRA was folded."""

    text: str
    adapter_ids: tuple[int, ...]  # what the prompt adapter reads of it


@dataclass(frozen=True)
class FoldedAdapter:
    """A LoRA adapter that was folded into the weights."""

    name: str  # of its folder
    blake3: str  # of the file of its weights, in hexadecimal
    ranks: tuple[int, ...]  # of its factors, each once, in rising order; none if it only replaces tensors
    changed: int  # tensors of the base model


@dataclass(frozen=True)
class Decoder:
    """What the runtime needs to know of the decoder."""

    dims: DecoderDims
    max_positions: int
    eos_token_ids: tuple[int, ...]
    has_prompt_adapter: bool = False  # a graph of its own makes the strength of LoRA of each prompt
    folded_prompt: FoldedPrompt | None = None
    trained_positions: int | None = None  # of the checkpoint, where the build was asked for more
    row_maps: bool = False  # whether prefills say where the rows come from that they leave
    word_heads: WordHeads | None = None  # whose attention prefill and steps tell; None: they tell none
    long_context: LongContext | None = None  # None: no prompt is treated in another way than the others

    @property
    def request_inputs(self) -> tuple[TensorSpec, ...]:
        """What prefill and steps take alike, fixed for a request."""
        lora = (lora_scale(self.dims),) if self.has_prompt_adapter else ()
        return (*lora, *(self.long_context.request_inputs if self.long_context else ()))

    @property
    def step_inputs(self) -> tuple[TensorSpec, ...]:
        """What steps take, fixed for a request."""
        return (*self.request_inputs, *(self.long_context.step_inputs if self.long_context else ()))


@dataclass(frozen=True)
class FileRecord:
    """One file of the artifact."""

    size: int
    blake3: str  # in hexadecimal, as `b3sum` prints it


@dataclass(frozen=True)
class WeightPlace:
    """One tensor inside a weight file of the artifact."""

    file: str
    offset: int  # bytes from the start of the file
    shape: tuple[int, ...]
    precision: str = (
        "fp32"  # what it is stored in: fp32, fp16, bf16; int8, uint8 for parts of quantised matrices
    )


@dataclass(frozen=True)
class Weights:
    """Every initializer of some graphs by name, so that all sessions can share one mapping of the files."""

    origin: str  # how they got here: "linked", "copied" or "converted"
    encoder: Mapping[str, WeightPlace]  # of all graphs of the audio tower
    decoder: Mapping[str, WeightPlace]  # of prefill and decode graphs alike


@dataclass(frozen=True)
class Graphs:
    """The graphs for one target: what they compute in, their weights, and their files within the artifact."""

    precision: str
    weights: str  # name of their table in the manifest
    encoder: str
    decode: str
    prefill: Mapping[str, str]  # profile name -> file
    wave_encoder: str | None = None  # of a tower that has one
    prompt_adapter: str | None = None  # where prompts decide the strength of LoRA
    quantized: str | None = None  # what the large matrices are in, "int8" or "int4"; None: in the precision
    kv_precision: str | None = None  # of the prompt's keys and values, "fp16"; None: that of the graphs

    @property
    def arithmetic(self) -> str:
        """What they compute in, for people."""
        return arithmetic(self.precision, self.quantized, self.kv_precision)

    @property
    def prefix_type(self) -> str:
        """The same format as signatures name it."""
        return ACTIVATION if self.kv_precision is None else PREFIX_TYPES[self.kv_precision]

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        optional = self.wave_encoder, self.prompt_adapter
        given = (name for name in optional if name is not None)
        return (self.encoder, self.decode, *given, *self.prefill.values())


def arithmetic(precision: str, quantized: str | None = None, kv_precision: str | None = None) -> str:
    """What graphs compute in, for people: fp32 with int8 weights."""
    named = {"weights": quantized, "prompt KV": kv_precision}
    parts = [f"{each} {what}" for what, each in named.items() if each]
    return precision + (f" with {' and '.join(parts)}" if parts else "")


@dataclass(frozen=True)
class Manifest:
    """Everything that crosses from the exporter to the runtime."""

    family: str
    decoder: Decoder
    front_end: FrontEnd
    tower: TowerDims
    prompt: Prompt | None
    graphs: Mapping[str, Graphs]  # by target, the one that was asked for first in front; they may share files
    profiles: Mapping[str, ResolvedProfile]
    weights: Mapping[str, Weights]  # by the names that `graphs` give: those that agree share a table
    versions: Mapping[str, str]
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    engines: Engines | None = None
    generation: SearchOptions = NOTHING_GIVEN  # how to search, as far as a request leaves it out
    adapters: tuple[FoldedAdapter, ...] = ()  # in the order in which they were folded in
    figures: Figures | None = None  # of the profiles, measured after the build; a manifest may lack the field

    def to_json(self) -> str:
        """The manifest as text, with a digest of itself."""
        content = self._content()
        if self.figures is not None:
            content[FIGURES] = to_json(self.figures)
        return json.dumps({**content, "digest": digest_of(content)}, indent=1, ensure_ascii=False) + "\n"

    @property
    def precision(self) -> str:
        """What the graphs compute in."""
        return ", ".join(dict.fromkeys(graphs.arithmetic for graphs in self.graphs.values()))

    @property
    def engine_precision(self) -> str | None:
        """What the engines compute in, if there are any."""
        return self.engines.precision if self.engines else None

    @property
    def weighs_rows(self) -> bool:
        """Whether the encoder says how much attention its rows get, because a profile takes it."""
        return any(profile.takes_row_weights for profile in self.profiles.values())

    @property
    def weight_origins(self) -> tuple[str, ...]:
        """How the weights got here, each way once."""
        return tuple(dict.fromkeys(weights.origin for weights in self.weights.values()))

    @property
    def digest(self) -> str:
        """Hash of the content but for figures, and so of every file: what tells two artifacts apart.

        Whoever measures an artifact finds the same one when the figures are taken in.
        """
        return digest_of(self._content())

    def shared_digest(self, target: str) -> str:
        """Hash of what all profiles share on a target: graphs, weights, front end, and files of settings.

        Profiles of artifacts with equal ones differ in what they reduce, and in nothing else.
        """
        graphs, weights = self.graphs[target], self.weights[self.graphs[target].weights]
        tables = weights.encoder, weights.decoder
        names = {*graphs.files} - {*graphs.prefill.values()}
        names |= {place.file for table in tables for place in table.values()}
        names |= {name for name in self.files if name.endswith(".json")}
        hashes = {name: self.files[name].blake3 for name in names}
        return digest_of({"files": hashes, "tables": to_json(tables), "front_end": to_json(self.front_end)})

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = to_json(replace(self, figures=None))
        del content[FIGURES]
        return {"format_version": MANIFEST_FORMAT, **content}


def parse_manifest(text: str | bytes, place: str) -> Manifest:
    """Read a manifest: its types are right then; `faults.py` says what else may be wrong with it.

    Raises:
        ArtifactError: not JSON, another format version, a changed byte; or fields that are missing, unknown
            or of another type, all in one message.
    """
    try:
        content = read_object(text)
    except JsonError as error:
        raise ArtifactError(f"{place}: {error}; build the artifact again") from None
    if "format_version" not in content:
        raise ArtifactError(f"{place}: not an artifact manifest; build the artifact again")
    version = content.pop("format_version")
    if version != MANIFEST_FORMAT:
        raise ArtifactError(
            f"{place}: format version {shown(version)}, this version of fastadasp-export reads "
            f"{MANIFEST_FORMAT}; build the artifact again"
        )
    if content.pop("digest", None) != digest_of({"format_version": version, **content}):
        raise ArtifactError(f"{place}: its content does not match its digest; build or copy it again")
    content.setdefault(FIGURES, None)
    try:
        return from_json(Manifest, content, whole=True)
    except RecordError as error:
        raise ArtifactError(f"{place}: {error}; build the artifact again") from None


def digest_of(content: Mapping[str, Any]) -> str:
    """Of all that a manifest says but this, in every format the same."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
