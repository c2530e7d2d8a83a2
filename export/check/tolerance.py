"""How far a backend may be from the reference, by the number format that it computes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.signature import (
    AUDIO_EMBEDS,
    LOG_SUM_EXP,
    ROW_WEIGHTS,
    TOP_LOGITS,
    cache_names,
    new_key,
    new_value,
)

LOGITS = "logits"  # top_logits and top_ids in the order of the vocabulary


@dataclass(frozen=True)
class Tolerance:
    """Largest absolute difference of an element, and what rounding alone may do."""

    scores: float  # of logits and their normaliser
    rows: float  # of audio rows, keys and values
    rounding: float  # inside a graph, relative to the largest value of a tensor: of probabilities at most 1
    audio_rows: float | None = None  # of audio rows, where keys and values may be farther away
    measured_on: Mapping[str, float] | None = None
    """Standard deviation of outputs of the model that it was measured on, where rounding is in proportion to
    the activations: outputs with a larger one may be farther off by as much.
    """
    caches: float | None = None
    """Of keys and values, as a share of the standard deviation of each output of a model; None: `rows`."""
    by_cache: Mapping[str, float] = field(default_factory=dict)
    """What that is for the outputs of one model."""

    @property
    def by_output(self) -> Mapping[str, float]:
        """As Polygraphy takes it; the empty name stands for all other outputs."""
        audio_rows = self.rows if self.audio_rows is None else self.audio_rows
        of_encoder = {AUDIO_EMBEDS: audio_rows, ROW_WEIGHTS: self.rounding}
        scores = {LOGITS: self.scores, LOG_SUM_EXP: self.scores}
        return {**scores, **of_encoder, "": self.rows, **self.by_cache}

    def for_outputs_of(self, expected: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Tolerance:
        """That of a model whose reference gives these outputs."""
        if self.measured_on is None:
            return self
        found = {LOGITS: _spread(expected, TOP_LOGITS), AUDIO_EMBEDS: _spread(expected, AUDIO_EMBEDS)}
        grown = {name: max(1.0, found[name] / spread) for name, spread in self.measured_on.items()}
        audio_rows = self.by_output[AUDIO_EMBEDS] * grown[AUDIO_EMBEDS]
        scores = self.scores * grown[LOGITS]
        return replace(self, scores=scores, audio_rows=audio_rows, by_cache=self._by_cache(expected))

    def _by_cache(self, expected: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, float]:
        if self.caches is None:
            return {}
        names = {name: None for outputs in expected for name in outputs if _is_cache(name)}
        return {name: self.caches * _spread(expected, name) for name in names}

    def __str__(self) -> str:
        """As a table shows it."""
        if self.scores == self.rows:
            return f"{self.rows:g}"
        if self.audio_rows is not None:
            caches = f"{self.rows:g}" if self.caches is None else f"{self.caches:g} standard deviations"
            rows = f"{self.audio_rows:.3g} for audio rows and {caches} for keys and values"
            return f"{self.scores:.3g} for scores, {rows}"
        return f"{self.scores:.3g} for scores and {self.rows:g} for rows"


CACHES = {name.partition(".")[0] for name in (*cache_names(0), new_key(0), new_value(0))}
"""How names of keys and values begin, before the layer."""


def _is_cache(name: str) -> bool:
    return name.partition(".")[0] in CACHES


def _spread(expected: Sequence[Mapping[str, npt.NDArray[Any]]], name: str) -> float:
    """Standard deviation of one output over all runs of a graph; 0 if it has no such output."""
    found = [outputs[name].ravel() for outputs in expected if name in outputs]
    return float(np.concatenate(found).std()) if found else 0.0


DEMO = {LOGITS: 2.5, AUDIO_EMBEDS: 1.8}
"""Standard deviations of the demo's outputs."""
TOLERANCES = {
    "fp32": Tolerance(scores=1e-3, rows=1e-3, rounding=2e-4),
    "fp32 with fp16 prompt KV": Tolerance(scores=6e-3, rows=1e-2, rounding=1e-3, audio_rows=1e-3),
    "fp16": Tolerance(scores=2e-2, rows=2e-1, rounding=2e-2),
    "bf16": Tolerance(scores=2e-1, rows=4.0, rounding=2e-1, measured_on=DEMO),
    "int8": Tolerance(2.0, rows=12.0, rounding=5e-2, audio_rows=1.0, measured_on=DEMO, caches=0.45),
    "int4": Tolerance(1.0, rows=12.0, rounding=5e-2, audio_rows=0.5, measured_on=DEMO, caches=0.45),
}
"""Precision of a backend, or the arithmetic of its graphs -> its tolerance.

With keys and values in 16 bits, those of the demo are off by up to 2e-3, half a step of fp16 at 8, and scores
by as much; in bf16 they would be off by 1.6e-2.
Those of 16 bits are for engines: about three times as far as torch in that format is from float32 on clips
of the demo, whose keys reach 9. No engine has been measured with them. In bf16 rounding is a share of each
number, so scores that are larger may be farther off: those of one random checkpoint are on OpenVINO by 0.36,
and agree within 1e-3 in float32. Those of quantised weights are against
what these stand for, so activations alone are rounded, by a share of the largest of a row or a block: errors
grow with the numbers. A random GLM-ASR in int8 whose scores have a standard deviation of 8.5, and audio rows
of 7.4, is off by 3.6 and 0.51; with activations in float32 the same graphs agree within 6e-5.
Each output of keys or values of a random model is off by up to 0.36 of its standard deviation, of the demo by
up to 0.16. Two swapped outputs of a key or value projection, or one scale that is twice what it should be,
put at least one of these outputs off by 0.55 of it, mostly by 1 to 4.
"""
OTHER_ROWS = Tolerance(scores=2.0, rows=12.0, rounding=0.0)
"""What a reduction may do that chooses other rows than float32 would, as rounding makes it where similarities
are close: keys are then as far apart as any two, and scores of the demo by up to 1.1, where they have a
standard deviation of 2.9.
"""


def tolerance_of(precision: str, reduces: bool) -> Tolerance:
    """That of a graph, by the key of its precision and whether it chooses rows by what it computes."""
    own = TOLERANCES[precision]
    if not reduces or own.rounding <= TOLERANCES["fp32"].rounding:
        return own
    audio_rows = own.rows if own.audio_rows is None else own.audio_rows
    scores, rows = max(own.scores, OTHER_ROWS.scores), max(own.rows, OTHER_ROWS.rows)
    return replace(own, scores=scores, rows=rows, audio_rows=audio_rows, caches=None)
