"""Parity with recorded outputs of a reference implementation: lengths and tokens identical, logits close.

The folder holds golden.json (settings with KV lengths and greedy tokens) and golden.safetensors (mel,
input_ids, logits.i). Nothing in it needs a tokenizer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import CheckpointError, DependencyError
from ...profiles.json_text import JsonError, read_object
from ...profiles.methods import METHODS
from ...profiles.profile import Profile
from ...profiles.temporary import temporary_folder
from ...runtime.audio.log_mel import LogMelConfig
from ...runtime.speech_lm import SpeechLM
from ..checkpoint.checkpoint import Checkpoint
from ..model.families.family import load_model
from ..model.spec import SpeechModelSpec
from ..options import BuildOptions
from ..pipeline import build

ATOL = 5e-3  # of the logits, whose scale is about 30 in the recorded models
RECORDED = {method.recorded_as: method for method in METHODS.values() if method.recorded_as}
"""By the name in a recording."""
SCHEDULES = {"none": "single", "constant": "constant", "decay": "decay"}
FILES = ("golden.json", "golden.safetensors")
Floats = npt.NDArray[np.floating[Any]]
Report = Callable[["GoldenResult"], None]


@dataclass(frozen=True)
class GoldenResult:
    """One recorded setting against ours."""

    index: int
    label: str
    lengths_match: bool
    tokens_match: bool
    logit_error: float  # largest absolute difference, fed the recorded tokens
    atol: float

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return self.lengths_match and self.tokens_match and self.logit_error <= self.atol


@dataclass(frozen=True)
class Setting:
    """One recorded setting: what was asked for, and what came out."""

    label: str
    profile: Profile
    kv_lengths: tuple[int, ...]
    tokens: tuple[int, ...]
    logits: Floats  # (tokens, vocab)


@dataclass(frozen=True)
class Golden:
    """A recorded prompt and its settings."""

    mel: npt.NDArray[np.float32]  # (bins, frames), filled up with silence
    mel_frames: int  # of these carry audio
    ids: npt.NDArray[np.int64]  # (prompt,)
    span: tuple[int, int]  # places of the first and the last audio row, which are bos and eos
    settings: tuple[Setting, ...]

    def window(self, config: LogMelConfig) -> tuple[npt.NDArray[np.float32], int]:
        """The frames that the encoder reads, and its rows that carry audio."""
        rows = config.rows_of(self.mel_frames)
        return np.ascontiguousarray(self.mel[:, : config.frames_per_row * rows]), rows


def check_golden(
    folder: Path, checkpoint: Path, report: Report = lambda _: None, atol: float = ATOL
) -> list[GoldenResult]:
    """Build the checkpoint under every recorded setting and compare.

    Args:
        folder: the recorded outputs.
        checkpoint: the model, often the same folder.
        report: called with each result as it comes.
        atol: tolerance of the logits.

    Raises:
        CheckpointError: the recording is incomplete, does not fit the model or names an unknown method.
        DependencyError: safetensors is not installed.
    """
    golden = read_golden(folder)
    if faults := list(_faults(golden, load_model(Checkpoint(checkpoint)))):
        raise CheckpointError(f"recorded outputs {folder}: {'; '.join(faults)}; record them with this model")
    results = []
    with temporary_folder() as scratch:
        target = scratch / "artifact"
        profiles = tuple(setting.profile for setting in golden.settings)
        build(checkpoint, target, BuildOptions(profiles, weights="copy"))
        model = SpeechLM.load(target, prepack=False)
        rows = model.audio_encoder.encode_window(*golden.window(model.manifest.front_end.log_mel))
        for i in range(len(golden.settings)):
            results.append(_compare(model, golden, rows, i, atol))
            report(results[-1])
    return results


def read_golden(folder: Path) -> Golden:
    """Read the recorded settings and arrays; errors as `check_golden`."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise DependencyError('safetensors is missing: pip install "fastadasp-export[export]"') from None
    if missing := [f"{name} is missing" for name in FILES if not (folder / name).is_file()]:
        raise CheckpointError(f"recorded outputs {folder}: {'; '.join(missing)}")
    try:
        content = read_object((folder / FILES[0]).read_bytes(), lenient=True)
        return _golden(content, load_file(folder / FILES[1]))
    except JsonError as error:
        raise CheckpointError(
            f"recorded outputs {folder}: {FILES[0]} {error}; copy or record them again"
        ) from None
    except (LookupError, TypeError, ValueError, SafetensorError) as error:
        fault = f"no {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"recorded outputs {folder}: {fault}; copy or record them again") from None


def _golden(content: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Golden:
    if wrong := sorted(name for name, array in arrays.items() if not np.isfinite(array).all()):
        raise ValueError(f"numbers in {', '.join(wrong)} are not finite")
    config, settings = content["config"], content["settings"]
    if not settings:
        raise ValueError("golden.json has no setting")
    start, end = map(operator.index, config["span"])
    return Golden(
        mel=arrays["mel"][0, :, :].astype(np.float32),
        mel_frames=operator.index(config["mel_frames"]),
        ids=arrays["input_ids"][0].astype(np.int64, casting="safe"),
        span=(start, end),
        settings=tuple(_setting(i, entry, arrays[f"logits.{i}"]) for i, entry in enumerate(settings)),
    )


def _setting(i: int, entry: Mapping[str, Any], logits: Floats) -> Setting:
    method, schedule, start, ratio = (entry[key] for key in ("method", "schedule", "start_layer", "ratio"))
    if method not in RECORDED or schedule not in SCHEDULES or not 0 <= ratio < 1:
        raise ValueError(
            f"setting {i}: {method} with schedule {schedule} and ratio {ratio} is not known; methods: "
            f"{', '.join(RECORDED)}; schedules: {', '.join(SCHEDULES)}; ratios: at least 0 and below 1"
        )
    name, ours = f"setting-{i}", RECORDED[method]
    if ours.reduces:
        reduction = SCHEDULES[schedule], start, Fraction(str(ratio))
        profile = Profile(name, ours.name, *reduction, include_audio_bos=True)
    else:
        profile = Profile(name, ours.name)  # recorded with a start layer beyond the last
    lengths, tokens = (tuple(map(operator.index, entry[key])) for key in ("kv_lengths", "tokens"))
    return Setting(f"{method} {schedule} start {start} ratio {ratio}", profile, lengths, tokens, logits)


def _faults(golden: Golden, model: SpeechModelSpec) -> Iterator[str]:
    """Why this model cannot have given the recording."""
    (start, end), num_ids = golden.span, len(golden.ids)
    front_end, positions, vocab = model.front_end, model.decoder.max_positions, model.decoder.dims.vocab_size
    config, least, bins = front_end.log_mel, front_end.least_encoder_rows, model.encoder.num_mel_bins
    mel, rows = golden.window(config)
    audio = front_end.tokens_of(rows) + front_end.rows_around
    in_range = least <= rows <= config.max_rows and mel.shape[1] >= config.least_frames_of(rows)
    if len(mel) != bins or not in_range:
        frames = f"{config.least_frames_of(least)} to {config.max_frames}"
        yield f"mel {mel.shape} or mel_frames is out of range: ({bins}, {frames}) is expected"
    if not 0 <= start < end < num_ids or end - start + 1 != audio:
        yield f"span {start} to {end} is out of range: {audio} places of the prompt's {num_ids} are expected"
    text = [*golden.ids[:start].tolist(), *golden.ids[end + 1 :].tolist()]
    for i, setting in enumerate(golden.settings):
        if (length := num_ids + len(setting.tokens) - 1) > positions:
            yield f"setting {i}: {length} rows exceed the {positions} positions of the model"
        if not setting.tokens or setting.logits.shape != (len(setting.tokens), vocab):
            yield f"logits.{i} {setting.logits.shape} does not fit {len(setting.tokens)} tokens of {vocab}"
        text += setting.tokens
    if wrong := [token for token in text if not 0 <= token < vocab]:
        yield f"token {wrong[0]} is not one of the model's {vocab}"


def _compare(model: SpeechLM, golden: Golden, rows: Floats, i: int, atol: float) -> GoldenResult:
    setting, (start, end) = golden.settings[i], golden.span
    vocab = model.manifest.decoder.dims.vocab_size
    decoder = model.decoder(setting.profile.name, golden.ids[:start], rows, golden.ids[end + 1 :])
    tops = [decoder.start(vocab)]
    tops += [decoder.step(np.array([token]), np.array([0]), vocab) for token in setting.tokens[:-1]]
    ours = np.concatenate([top.logits[:, top.ids[0].argsort()] for top in tops])  # by token, not by rank
    return GoldenResult(
        index=i,
        label=setting.label,
        lengths_match=decoder.cache.prefix_lengths == setting.kv_lengths,
        tokens_match=tuple(ours.argmax(-1).tolist()) == setting.tokens,
        logit_error=float(np.abs(ours - setting.logits).max()),
        atol=atol,
    )
