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
from ...profiles.schedule import BEFORE_LAYERS
from ...runtime.artifact.engines import changed_place, prefill_engine

REDUCING_NODE = re.compile(r"/(?:layers\.(?P<layer>\d+)|input)/reduce/")


def plugin_layers(graph: Path) -> dict[str, int]:
    """How many nodes of each plugin a graph has."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return dict(Counter(node.op_type for node in nodes if node.domain == DOMAIN))


def graph_ratios(graph: Path) -> dict[int, Fraction]:
    """The share of the rows that each reducing node of a graph removes, by layer or `BEFORE_LAYERS`."""
    ratios = {}
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        place = REDUCING_NODE.match(node.name)
        fields = {attribute.name: attribute.i for attribute in node.attribute}
        if place and "denominator" in fields:
            layer = BEFORE_LAYERS if place["layer"] is None else int(place["layer"])
            ratios[layer] = Fraction(fields["numerator"], fields["denominator"])
    return ratios


def check_ratios(graphs: Mapping[str, Path], profiles: Sequence[ResolvedProfile]) -> None:
    """Refuse a prefill graph that removes other shares than its profile says.

    Raises:
        EngineError: with the profile, the layer and both shares.
    """
    for resolved in profiles:
        removed = graph_ratios(graphs[prefill_engine(resolved.name)])
        found = [removed.get(layer, Fraction(0)) for layer in range(len(resolved.ratios))]
        at_input = removed.get(BEFORE_LAYERS, Fraction(0))
        if change := changed_place(resolved, at_input, found):
            raise EngineError(
                f"profile {resolved.name!r}: {change.place} of the graph removes {change.found} of the rows, "
                f"the profile {change.wanted}; build again"
            )
