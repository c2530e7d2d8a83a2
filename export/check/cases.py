"""What the graphs are run on: real clips and seeded random input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...runtime.artifact.artifact import TOKENIZER, Artifact
from ...runtime.artifact.manifest import Manifest
from ...runtime.audio.encoder import AudioEncoder
from ...runtime.audio.features import encoder_rows, feature_windows
from ...runtime.audio.read import load_audio
from ...runtime.decoding.answer_sizes import AnswerSizes
from ...runtime.decoding.kv_cache import KVCache
from ...runtime.latency import Stopwatch
from ...runtime.limits import check_length
from ...runtime.prompt import PromptCodec, PromptIds, tokenizer_of
from ...runtime.session import Session

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

SEED = 0
RANDOM_SECONDS = 3.0
TEXT_ROWS = 5, 9  # of random prompts, before and after the audio
SHORT_SPANS = {"1 audio row": 1, "2 audio rows": 2}
BRANCHES = (0, 0, 0), (0, 0, 2), (2, 0, 1)
"""Which row of the last step each beam continues, step by step: one beam dies, another one splits."""


@dataclass(frozen=True)
class Case:
    """One input of the model."""

    label: str
    windows: Sequence[Feed]  # of the encoder
    rows: Array  # audio rows of the decoder, (audio, hidden_size)
    prompt: PromptIds
    row_weights: Array  # what the encoder says of them, (audio, 2); (audio, 0) where it is not asked


def clip_cases(artifact: Artifact, clips: Sequence[Path], encoder: Session) -> list[Case]:
    """Each clip with the model's base prompt; `encoder` gives its audio rows.

    Raises:
        AudioError: a file that cannot be read, or is too short or long for the model.
    """
    return [_clip(artifact, path, encoder) for path in clips]


def random_cases(manifest: Manifest, scale: float) -> list[Case]:
    """Random mel frames, audio rows of standard deviation `scale`, and ids; and spans of 1 and 2 rows."""
    rng = np.random.default_rng(SEED)
    lengths = {"random": manifest.front_end.audio_tokens(_samples(manifest)), **SHORT_SPANS}
    around, weights = manifest.front_end.rows_around, sig.NUM_ROW_WEIGHTS * manifest.weighs_rows
    return [
        Case(
            label,
            [_random_window(manifest, rng)] if label == "random" else [],
            scale * _normal(rng, length + around, manifest.decoder.dims.hidden_size),
            _random_prompt(manifest, rng),
            np.exp(_normal(rng, length + around, weights)),
        )
        for label, length in lengths.items()
    ]


def prefill_feed(case: Case, candidates: int, takes_row_weights: bool = False) -> Feed:
    """The inputs of a prefill."""
    weights = {sig.ROW_WEIGHTS: case.row_weights} if takes_row_weights else {}
    return {
        **weights,
        sig.PREFIX_IDS: case.prompt.before,
        sig.AUDIO_EMBEDS: case.rows,
        sig.SUFFIX_IDS: case.prompt.after,
        sig.NUM_CANDIDATES: np.array([candidates]),
    }


def decode_feeds(manifest: Manifest, decode: Session, prefix: Mapping[str, Any]) -> Iterator[Feed]:
    """A few steps of beams that branch, over this prefix; `decode` gives the pool of each next step."""
    rng, dims = np.random.default_rng(SEED), manifest.decoder.dims
    cache = KVCache(decode, dims, prefix)
    for step, parents in enumerate(BRANCHES):
        mask = cache.branch(np.array(parents))
        feed = {
            sig.TOKEN_IDS: rng.integers(dims.vocab_size, size=len(parents)),
            sig.STEP: np.array([step]),
            sig.POOL_MASK: mask,
            sig.NUM_CANDIDATES: np.array([dims.vocab_size]),
            **cache.tensors,
        }
        yield feed
        cache.append(decode.run(feed), mask)


def _clip(artifact: Artifact, path: Path, encoder: Session) -> Case:
    manifest = artifact.manifest
    config, prompt = manifest.front_end.log_mel, _prompt(artifact)
    audio = load_audio(path, config.sample_rate)
    check_length(manifest, str(path), audio, AnswerSizes(prompt.num_text_rows, 1, len(BRANCHES)))
    windows = [
        {sig.MEL: window.mel, sig.ENCODER_ROWS: np.array([window.encoder_rows])}
        for window in feature_windows(audio.samples, config)
        if manifest.front_end.tokens_of(window.encoder_rows)
    ]
    found = AudioEncoder(encoder, manifest.front_end).encode(audio.samples, Stopwatch())
    rows, weights = np.split(found, [manifest.decoder.dims.hidden_size], axis=1)
    return Case(path.stem, windows, rows, prompt.about(audio.seconds), weights)


def _prompt(artifact: Artifact) -> PromptIds:
    """The base template without further text; random ids where there is no tokenizer."""
    manifest = artifact.manifest
    if not artifact.has_tokenizer or manifest.prompt is None:
        return _random_prompt(manifest, np.random.default_rng(SEED))
    return PromptCodec(tokenizer_of(artifact.read(TOKENIZER), TOKENIZER), manifest.prompt).encode("")


def _random_prompt(manifest: Manifest, rng: np.random.Generator) -> PromptIds:
    before, after = (rng.integers(manifest.decoder.dims.vocab_size, size=size) for size in TEXT_ROWS)
    return PromptIds(before, after)


def _random_window(manifest: Manifest, rng: np.random.Generator) -> Feed:
    config, samples = manifest.front_end.log_mel, _samples(manifest)
    rows = encoder_rows(samples, config)
    frames = min(samples // config.hop_length, config.frames_of(rows))
    length = frames if config.has_audio_alone else config.frames_of(rows)
    mel = np.zeros((config.num_mel_bins, length), np.float32)
    mel[:, :frames] = _normal(rng, config.num_mel_bins, frames)
    return {sig.MEL: mel, sig.ENCODER_ROWS: np.array([rows])}


def _samples(manifest: Manifest) -> int:
    """Samples of random audio: at most one window."""
    config = manifest.front_end.log_mel
    return min(round(RANDOM_SECONDS * config.sample_rate), config.window_samples)


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)
