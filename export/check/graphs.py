"""The graphs of an artifact: encoder, one prefill a profile, decode."""

from __future__ import annotations

from dataclasses import dataclass

from ...profiles.signature import Signature, decode_signature, encoder_signature, prefill_signature
from ...runtime.artifact.manifest import Graphs, Manifest


@dataclass(frozen=True)
class GraphName:
    """One graph; a prefill belongs to a profile."""

    kind: str  # "encoder", "prefill" or "decode"
    profile: str | None = None

    def __str__(self) -> str:
        """As files and tables call it: prefill.full."""
        return f"{self.kind}.{self.profile}" if self.profile else self.kind


ENCODER, DECODE = GraphName("encoder"), GraphName("decode")


def prefill_of(profile: str) -> GraphName:
    """The prefill of one profile."""
    return GraphName("prefill", profile)


def signature_of(graph: GraphName, manifest: Manifest) -> Signature:
    """Inputs and outputs of a graph."""
    decoder, dims = manifest.decoder, manifest.decoder.dims
    if graph == ENCODER:
        front_end = manifest.front_end
        width = front_end.window_width(dims.hidden_size)
        return encoder_signature(front_end.log_mel.num_mel_bins, width, manifest.weighs_rows)
    if graph == DECODE:
        return decode_signature(dims, decoder.step_inputs)
    assert graph.profile is not None, "a prefill belongs to a profile"
    takes_row_weights = manifest.profiles[graph.profile].takes_row_weights
    return prefill_signature(dims, decoder.request_inputs, takes_row_weights=takes_row_weights)


def file_of(graph: GraphName, graphs: Graphs) -> str:
    """The ONNX file of a graph, relative to the artifact, among those for one target."""
    if graph.profile is not None:
        return graphs.prefill[graph.profile]
    return graphs.encoder if graph == ENCODER else graphs.decode
