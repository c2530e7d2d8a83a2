"""The encoder graph of a tower that is no Whisper: features of a clip, or samples, to rows of the decoder."""

from __future__ import annotations

import onnx

from ....profiles.signature import ENCODER_ROWS, MEL, encoder_signature
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.weights import WeightStore
from ...model.conformer import ConformerSpec
from ...model.conv_tokenizer import ConvTokenizersSpec
from ...model.sanm import SanmSpec
from ...model.spec import ClipEncoder
from ..graph import Graph
from ..lowering.lowering import Lowering
from .conformer import conformer
from .conv_tokenizer import conv_tokenizers
from .sanm import sanm


def build_clip_encoder(
    spec: ClipEncoder, front_end: FrontEnd, hidden_size: int, store: WeightStore, lowering: Lowering
) -> onnx.ModelProto:
    """The encoder with its head.

    Args:
        spec: the encoder, of any kind that has a module here.
        front_end: how its rows become tokens.
        hidden_size: of the decoder.
        store: where the weights are.
        lowering: the backend.
    """
    g = Graph("encoder", store, lowering)
    signature = encoder_signature(spec.num_mel_bins, hidden_size)
    for tensor in signature.inputs:
        g.input(tensor)
    frames = g.op("Transpose", g.to_activation(MEL), perm=[1, 0])
    if isinstance(spec, ConvTokenizersSpec):
        conv_tokenizers(g, spec, front_end, hidden_size, frames)
    else:
        _whole_clips(g, spec, front_end, lowering, frames)
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model((), lowering.domains)


def _whole_clips(g: Graph, spec: ClipEncoder, front_end: FrontEnd, lowering: Lowering, frames: str) -> None:
    """Write the audio rows of frames (frames, numbers), of which the first are those of the clip."""
    rows = g.shaped(g.slice(frames, g.ints(0), ENCODER_ROWS, 0), ("rows", spec.num_mel_bins))
    if isinstance(spec, ConformerSpec):
        conformer(g, lowering, spec, front_end, rows)
    else:
        assert isinstance(spec, SanmSpec), f"{type(spec).__name__} has no graph"
        sanm(g, lowering, spec, front_end, rows)
