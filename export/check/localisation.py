"""Where a backend begins to differ: the first place, as it runs, that rounding cannot explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.signature import TOP_LOGITS
from .backends import CheckedBackend
from .cases import Feed
from .graphs import GraphName
from .places import HEAD, KEPT, REDUCTION, Place
from .tolerance import TOLERANCES, Tolerance
from .torch_backend import TorchBackend

Array = npt.NDArray[Any]


def first_difference(
    graph: GraphName,
    reference: TorchBackend,
    backend: CheckedBackend,
    feed: Feed,
    tolerance: Tolerance | None = None,
) -> str:
    """Run both with every place as an output, and say in one line where they part.

    Both run on values of their own, so whatever is wrong at a place spreads to all later ones, and the first
    one that differs is where it arose. Without a tolerance, that of the backend's precision is taken.
    """
    places, tolerance = backend.places(graph), tolerance or TOLERANCES[backend.precision(graph)]
    expected = reference.tapped(graph, places).run(feed)
    session = backend.tapped(graph, places)
    found = {name: session.read(value) for name, value in session.run(feed).items()}
    pairs = [
        (_rows(expected[place.value], found[place.value], place), found[place.value]) for place in places
    ]
    for i, (place, pair) in enumerate(zip(places, pairs, strict=True)):
        if fault := _fault(*pair, tolerance, backend.precision(graph)):
            tie = _tie(place, reference, tolerance)
            return f"first differs in {place}: {fault}{tie}; {_before(places[:i])}"
    return _nowhere(places, pairs, tolerance, backend)


def _nowhere(
    places: Sequence[Place],
    pairs: Sequence[tuple[Array, Array]],
    tolerance: Tolerance,
    backend: CheckedBackend,
) -> str:
    """Why the graph differs though no place does."""
    for place, (expected, found) in zip(places, pairs, strict=True):
        error = float(np.abs(expected - found).max())
        if error > _allowed(place, tolerance):
            return f"no place stands out: errors that rounding explains add up to {error:.1e} in {place}"
    if tolerance.measured_on is not None:
        return (
            "every place inside agrees once it is read out, which alone changes how activations are rounded: "
            f"that, or an optimisation of {backend.name}, makes the difference; compare with other versions"
        )
    return (
        "every place inside agrees once it is read out: an optimisation of the backend is at fault; "
        f"compare with other versions of {backend.name}"
    )


def _allowed(place: Place, tolerance: Tolerance) -> float:
    """How far outputs may be off, and the scores as they come, in the order of the vocabulary."""
    if place.value == TOP_LOGITS or place.part == HEAD:
        return tolerance.scores
    return np.inf if place.module else tolerance.by_output.get(place.value, tolerance.rows)


def _rows(expected: Array, found: Array, place: Place) -> Array:
    """The rows of the reference that the graph computes."""
    if place.rows == "first":
        return expected[: len(found)]
    return expected[-len(found) :] if place.rows == "last" else expected


def _fault(expected: Array, found: Array, tolerance: Tolerance, precision: str) -> str | None:
    """What is wrong at one place, or None."""
    if expected.shape != found.shape:
        return f"shape {list(found.shape)} instead of {list(expected.shape)}"
    if not np.isfinite(expected).all():
        return "the reference itself is not finite there; the weights or the input are at fault"
    if not np.isfinite(found).all():
        overflow = "; fp16 overflow: build with --precision bf16" if precision == "fp16" else ""
        return f"not finite{overflow}"
    error, largest = float(np.abs(expected - found).max()), float(np.abs(expected).max())
    if error <= tolerance.rounding * largest:
        return None
    return (
        f"error {error:.1e} on values up to {largest:.2g}, of which rounding explains {tolerance.rounding:g}"
    )


def _tie(place: Place, reference: TorchBackend, tolerance: Tolerance) -> str:
    """A hint where two scores were so close that rounding may have chosen."""
    if place.part not in (REDUCTION, *KEPT) or place.layer is None:
        return ""
    margin = reference.margins.get(place.layer, np.inf)
    if margin > tolerance.rounding:
        return ""
    return (
        f" (the last score taken and the first one left are {margin:.0e} apart: rounding may choose either)"
    )


def _before(places: Sequence[Place]) -> str:
    """What agreed."""
    return f"everything up to {places[-1]} agrees" if places else "nothing stands before it"
