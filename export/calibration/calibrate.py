"""Matrices in 4 bits by what clips multiply them with: the table of contents of a calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ...evaluation.clips.clip import Clip
from ...profiles.errors import RequestError
from ...runtime.audio.read import place_of
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.derived import Weight
from ..checkpoint.int4 import MOST_MOVED, Parts
from ..checkpoint.precision import FP32, Precision
from ..model.quantize import block_of, int4_matrices
from ..model.spec import SpeechModelSpec
from .clips import Calibration, ClipInput, audio_encoder
from .gptq import gptq_blocks
from .inputs import decoder_products

Tick = Callable[[int, int], None]
"""Told how many matrices are done, and how many there are in all."""


def calibrated(
    model: SpeechModelSpec,
    checkpoint: Checkpoint,
    clips: Sequence[Clip],
    block: int,
    scales_in: Precision = FP32,
    threads: int = 0,
    tick: Tick = lambda *_: None,
) -> dict[str, Parts | None]:
    """Every matrix that the clips reach, by name; None for one that is to stay in 8 bits.

    These are the sensitive ones: their products stay close only if some block moves so far that a check of
    the artifact could take a fault for it. The head is none of them, nor is what only a prompt reaches.

    Args:
        model: as it is to be built, before it is quantised.
        checkpoint: where it comes from.
        clips: what it will hear, with what it is to answer; some dozens.
        block: inputs that share a scale.
        scales_in: what holds the scales, wherever they are stored.
        threads: of the encoder; 0 takes one per core.
        tick: told how far it is.

    Raises:
        CheckpointError: it has no tokenizer.
        AudioError, RequestError: a clip that the model cannot take.
    """
    weights = {weight.name: weight for weight in int4_matrices(model)}
    found: dict[str, Parts | None] = {}
    tick(0, len(weights))
    products = _products(model, checkpoint, clips, threads, weights)
    for done, (name, product) in enumerate(products, 1):
        weight = weights[name]
        parts = gptq_blocks(weight.read(), product, block_of(weight, block), scales_in)
        tick(done, len(weights))
        found[name] = parts if parts[-1][0] <= MOST_MOVED else None
    return found


def _products(
    model: SpeechModelSpec,
    checkpoint: Checkpoint,
    clips: Sequence[Clip],
    threads: int,
    weights: Mapping[str, Weight],
) -> Iterator[tuple[str, NDArray[Any]]]:
    """X^T X (in, in) of the rows X that each matrix meets."""
    with audio_encoder(model, threads) as encoder:
        calibration = Calibration(checkpoint, model, encoder)
        read = [calibration.read(clip) for clip in clips]
    for clip, found in zip(clips, read, strict=True):
        _check_answer(clip, found, model)
    for products in decoder_products(model, read, weights.keys()):
        for name in list(products):  # let go of those of each matrix
            yield name, products.pop(name)


def _check_answer(clip: Clip, found: ClipInput, model: SpeechModelSpec) -> None:
    """Refuse an answer that ends beyond the positions: no request could have it.

    Raises:
        RequestError: with the clip and the numbers.
    """
    before = found.prompt.num_text_rows + len(found.audio)
    if before + len(found.answer) > model.decoder.max_positions:
        raise RequestError(
            f"{place_of(clip.path)}: its answer takes {len(found.answer)} positions after {before} of prompt "
            f"and audio, and this model has {model.decoder.max_positions}: cut the answer or the audio"
        )
