"""Faults of the engines that a manifest lists: what they were built for, and the plan of each graph."""

from __future__ import annotations

from collections.abc import Iterator

from ....profiles.faults import at, count_fault, shown
from ..engines import (
    DECODE,
    ENCODER,
    PROMPT_ADAPTER,
    WAVE_ENCODER,
    EngineRecord,
    Engines,
    Shape,
    prefill_engine,
)
from ..manifest import Manifest
from .fields import (
    ITEM_BYTES,
    LARGEST,
    LARGEST_FILE,
    MOST_AXES,
    QUANTIZED,
    hash_fault,
    keys_fault,
    known_fault,
    listed_fault,
    text_fault,
)

PRODUCTS = ("tensorrt_rtx", "tensorrt")


def engines_faults(engines: Engines, manifest: Manifest) -> Iterator[str]:
    """Those of the engines: texts, sizes, and a plan for each graph that the model has."""
    machine = engines.machine
    texts = {"machine.version": machine.version, "plugin_abi": engines.plugin_abi}
    for name, text in {**texts, "verified_on": engines.verified_on or "none"}.items():
        yield from text_fault(f"engines.{name}", text)
    yield from known_fault("engines.machine.product", machine.product, PRODUCTS)
    yield from count_fault("engines.machine.sm", machine.sm, 1, LARGEST)
    yield from known_fault("engines.precision", engines.precision, ITEM_BYTES)
    for name in ("max_beams", "max_batch", "max_audio_rows", "max_text_rows", "max_new_tokens"):
        yield from count_fault(f"engines.{name}", getattr(engines, name), 1, LARGEST)
    if not engines.max_audio_seconds > 0:
        yield f"engines.max_audio_seconds is {engines.max_audio_seconds}: it must be above 0"
    if engines.plugin_library is not None:
        yield from listed_fault("engines.plugin_library", engines.plugin_library, manifest)
    optional = {
        WAVE_ENCODER: manifest.front_end.wave is not None,
        PROMPT_ADAPTER: manifest.decoder.has_prompt_adapter,
    }
    shared = ENCODER, DECODE, *(name for name, is_there in optional.items() if is_there)
    wanted = *shared, *map(prefill_engine, manifest.profiles)
    yield from keys_fault("engines.plans", engines.plans, wanted)
    for name, plan in engines.plans.items():
        yield from _plan_faults(at("engines.plans", name), plan, manifest)
        layers = 0 if name in shared else manifest.decoder.dims.num_layers
        if (found := len(plan.layer_ratios)) != layers:
            yield f"{at('engines.plans', name)}.layer_ratios has {found} entries, not {layers}"


def _plan_faults(place: str, plan: EngineRecord, manifest: Manifest) -> Iterator[str]:
    yield from listed_fault(f"{place}.file", plan.file, manifest)
    yield from hash_fault(f"{place}.graph_sha256", plan.graph_sha256)
    if plan.input_ratio >= 1:
        yield f"{place}.input_ratio is {plan.input_ratio}: some rows are always left"
    if any(ratio >= 1 for ratio in plan.layer_ratios):
        yield f"{place}.layer_ratios has a share of 1 or more: no layer removes all of its rows"
    if not plan.seconds >= 0:
        yield f"{place}.seconds is {plan.seconds}: it must not be negative"
    if plan.peak_bytes is not None:
        yield from count_fault(f"{place}.peak_bytes", plan.peak_bytes, 0, LARGEST_FILE)
    for layer, count in plan.plugin_layers.items():
        yield from count_fault(at(f"{place}.plugin_layers", layer), count, 0, LARGEST)
    for form, count in plan.quantized.items():
        yield from known_fault(f"{place}.quantized", form, QUANTIZED)
        yield from count_fault(at(f"{place}.quantized", form), count, 1, LARGEST)
    for tensor, shapes in plan.shapes.items():
        if not _are_ordered(shapes):
            yield f"{at(f'{place}.shapes', tensor)} is {shown(shapes)}: least, usual and largest do not rise"


def _are_ordered(shapes: tuple[Shape, Shape, Shape]) -> bool:
    """Whether three shapes have the same axes, none of which shrinks from one to the next."""
    if len({len(shape) for shape in shapes}) > 1 or len(shapes[0]) > MOST_AXES:
        return False
    return all(0 <= low <= opt <= high <= LARGEST for low, opt, high in zip(*shapes, strict=True))
