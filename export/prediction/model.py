"""A checkpoint as a plan sees it: rows for seconds, bytes for a number format; no weight is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ...profiles.errors import CheckpointError
from ...profiles.flops import ResolvedProfile
from ...profiles.profile import Profile
from ..checkpoint.config_alone import ConfigAlone, has_weights
from ..checkpoint.derived import Derived
from ..model.families.family import describe
from ..model.fit import decoder_rows, resolve_for
from ..model.quantize import quantized
from ..model.spec import SpeechModelSpec, tensors_of
from ..targets import TARGETS
from .work import Request, Sizes

CPU_GRAPHS, GPU_GRAPHS = "onnxruntime", "onnxruntime-cuda"
"""The targets of the exporter whose graphs are planned."""
ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class PlannedModel:
    """A described checkpoint, and how long a prompt it is planned for."""

    spec: SpeechModelSpec
    positions: int
    text_rows: int
    has_weights: bool

    def resolve(self, profile: Profile) -> ResolvedProfile:
        """Fit a profile.

        Raises:
            ProfileError: it does not fit.
        """
        return resolve_for(profile, self.spec)

    def request(self, resolved: ResolvedProfile, seconds: float, beams: int) -> Request:
        """A request of so many seconds of audio."""
        audio = decoder_rows(self.spec, seconds)
        return Request(resolved, *self.spec.front_end.parted(audio, self.text_rows, resolved.profile), beams)

    def longest_seconds(self, new_tokens: int) -> float:
        """The longest audio whose rows and answer the positions hold."""
        return self.spec.front_end.seconds_of(self.positions - self.text_rows - new_tokens)

    def sizes(self, backend: str, precision: str, quantize: str | None, int4_block: int) -> Sizes:
        """Bytes of graphs in a number format, as a backend holds them.

        On a GPU all sessions read one copy. On a CPU quantised matrices are packed, by the encoder once, by
        prefill and step each; while the last of them packs, the pages that it reads are there as well, and
        are given back then. Of an embedding that stays in its file only the rows in use are read. Matrices of
        float32 are read where they are mapped, and packed for the step.
        """
        spec = self.spec
        if quantize:
            spec = quantized(spec, quantize, TARGETS[backend].quantizers(precision, {}, int4_block))
        decoder, item = spec.decoder, ITEM_BYTES[precision]
        read = _bytes((decoder.layers, decoder.final_norm, decoder.head), item)
        tower, whole = _bytes(spec.tower, item), _bytes((spec.tower, decoder), item)
        if backend != CPU_GRAPHS:
            return Sizes(decoder.dims, read, whole, whole, item)
        if quantize is None:
            return Sizes(decoder.dims, read, whole + read, whole + read, item)
        return Sizes(decoder.dims, read, tower + 2 * read, tower + 3 * read, item)


def planned_model(folder: Path, text_rows: int, max_positions: int | None) -> PlannedModel:
    """Read the settings of a checkpoint.

    Raises:
        CheckpointError: they are not supported, or have as many positions as are asked for.
    """
    spec = describe(ConfigAlone(folder))
    trained = spec.decoder.max_positions
    if max_positions is not None and max_positions <= trained:
        raise CheckpointError(
            f"max_positions {max_positions}: the checkpoint has {trained} by itself; give more, or leave it "
            "out"
        )
    return PlannedModel(spec, max_positions or trained, text_rows, has_weights(folder))


def _bytes(part: object, item_bytes: int) -> float:
    """Of all tensors of a part, each once."""
    found = dict.fromkeys(tensors_of(part))
    return float(sum(math.prod(tensor.shape) * _item(tensor, item_bytes) for tensor in found))


def _item(tensor: object, item_bytes: int) -> int:
    """Bytes of one number: those of a quantised matrix have a format of their own."""
    own = tensor.precision if isinstance(tensor, Derived) else None
    return own.item_bytes if own else item_bytes
