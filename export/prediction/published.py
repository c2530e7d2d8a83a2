"""The published table of latencies, predicted: with a prompt for each beam, as its times imply, and with one.

The efficiencies of the code behind it are fitted to its times of the full model; those of reduced profiles
are predicted with them. So are those of our graphs, whose beams share a prompt that no step copies.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluation.results.plan import PublishedTime
from ...profiles.flops import DecoderDims, decode_step_flops, resolve
from ...profiles.methods import FULL
from ...profiles.profile import load_profile
from .calibration import Measured, fitted
from .devices import DEVICES, GPU_EFFICIENCY, efficiency_of
from .roofline import Ceilings, Efficiency, pass_ms
from .work import GPU_KERNELS, Kernels, Request, Sizes, held_kv_bytes, prefill_work, step_work

TABLE = Path(__file__).parent / "assets" / "published.toml"
ITEM_BYTES = 2
PER_BEAM = Kernels(fused_attention=True, whole_last_layer=True, shared_prompt=False, copies_cache=True)


@dataclass(frozen=True)
class PublishedRow:
    """Times of one request as they were published."""

    beams: int
    audio_seconds: float
    profile: str
    prefill_ms: float
    decode_ms: float
    tokens: float  # of the answer

    @property
    def step_ms(self) -> float:
        """Of one token."""
        return self.decode_ms / self.tokens


class Published:
    """The table with the decoder and the device that it is of."""

    def __init__(self) -> None:
        content = tomllib.loads(TABLE.read_text("utf-8"))
        self.rows = tuple(
            _row(dict(zip(content["table"]["columns"], row, strict=True))) for row in content["table"]["rows"]
        )
        self._rows_a_second, self._text_rows = content["rows_a_second"], content["text_rows"]
        dims = DecoderDims(**content["dims"])
        weights = ITEM_BYTES * decode_step_flops(dims, [0] * dims.num_layers) / 2
        self.sizes = Sizes(dims, weights, weights, weights, ITEM_BYTES)
        self.device: str = content["device"]
        device = DEVICES[self.device]
        peak = device.flops_a_second[content["precision"]]
        self.ceilings = Ceilings(peak, peak, device.bytes_a_second)

    def request(self, row: PublishedRow) -> Request:
        """What a row was measured with."""
        profile = load_profile(row.profile)
        reference = round(self._rows_a_second * float(profile.reference_audio_seconds))
        resolved = resolve(profile, self.sizes.dims, reference)
        return Request(resolved, round(self._rows_a_second * row.audio_seconds), self._text_rows, row.beams)

    def efficiency(self) -> Efficiency:
        """Fitted to the times of the full model."""
        full = [row for row in self.rows if row.profile == FULL]
        measured = [each for row in full for each in self._measured(row)]
        return fitted(measured, self.ceilings, efficiency_of(GPU_EFFICIENCY))

    def times(self) -> Iterator[PublishedTime]:
        """Every row beside its predictions."""
        efficiency = self.efficiency()
        for row in self.rows:
            yield PublishedTime(
                row.beams,
                row.audio_seconds,
                row.profile,
                row.prefill_ms,
                row.decode_ms,
                row.step_ms,
                *self._predicted(row, PER_BEAM, efficiency),
                *self._predicted(row, GPU_KERNELS, efficiency),
            )

    def _measured(self, row: PublishedRow) -> Iterator[Measured]:
        request = self.request(row)
        yield Measured(prefill_work(self.sizes, request, PER_BEAM), row.prefill_ms)
        yield Measured(step_work(self.sizes, request, row.tokens / 2, PER_BEAM), row.step_ms)

    def _predicted(
        self, row: PublishedRow, kernels: Kernels, efficiency: Efficiency
    ) -> tuple[float, float, float]:
        """Milliseconds of the prefill and of a step, and bytes of keys and values at the end."""
        request = self.request(row)
        prefill = pass_ms(prefill_work(self.sizes, request, kernels), self.ceilings, efficiency)
        step = pass_ms(step_work(self.sizes, request, row.tokens / 2, kernels), self.ceilings, efficiency)
        return prefill, step, held_kv_bytes(self.sizes, request, row.tokens, kernels)


def _row(cells: dict[str, Any]) -> PublishedRow:
    return PublishedRow(
        cells["beams"],
        cells["audio_seconds"],
        cells["profile"],
        1e3 * cells["prefill_s"],
        1e3 * cells["decode_s"],
        cells["decode_s"] * cells["tokens_per_second"],
    )
