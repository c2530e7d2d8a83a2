"""What a graph for TensorRT asks of its plugins: how many of which, and the share that each removes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import onnx

from ...plugins.body import DOMAIN
from ...profiles.errors import EngineError
from ...profiles.flops import ResolvedProfile
from ...runtime.artifact.engines import changed_layer, prefill_engine

REDUCING_NODE = re.compile(r"/layers\.(\d+)/reduce/")


def plugin_layers(graph: Path) -> dict[str, int]:
    """How many nodes of each plugin a graph has."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return dict(Counter(node.op_type for node in nodes if node.domain == DOMAIN))


def graph_ratios(graph: Path) -> dict[int, Fraction]:
    """The share of the rows that each reducing node of a graph removes, by layer."""
    ratios = {}
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        place = REDUCING_NODE.match(node.name)
        fields = {attribute.name: attribute.i for attribute in node.attribute}
        if place and "denominator" in fields:
            ratios[int(place[1])] = Fraction(fields["numerator"], fields["denominator"])
    return ratios


def check_ratios(graphs: Mapping[str, Path], profiles: Sequence[ResolvedProfile]) -> None:
    """Refuse a prefill graph that removes other shares than its profile says.

    Raises:
        EngineError: with the profile, the layer and both shares.
    """
    for resolved in profiles:
        removed = graph_ratios(graphs[prefill_engine(resolved.name)])
        found = [removed.get(layer, Fraction(0)) for layer in range(len(resolved.ratios))]
        if (layer := changed_layer(resolved, found)) is not None:
            raise EngineError(
                f"profile {resolved.name!r}: layer {layer} of the graph removes {found[layer]} of the rows, "
                f"the profile {resolved.ratios[layer]}; build again"
            )
