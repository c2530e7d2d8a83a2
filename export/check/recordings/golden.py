"""Parity with recorded outputs of a reference implementation: lengths and tokens identical, logits close.

The folder holds golden.json (settings with KV lengths and greedy tokens) and golden.safetensors (mel,
input_ids, logits.i). Nothing in it needs a tokenizer. Where it has logits64.i, the reference without its
casts to float32, those count. It may have edge_settings, with edge_logits.i: the same weights under other
settings of the model, or the first rows of the prompt.
"""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....profiles.errors import CheckpointError
from ....profiles.faults import shown
from ....profiles.methods import METHODS
from ....profiles.profile import Profile
from ....profiles.temporary import temporary_folder
from ....runtime.audio.features import Features
from ....runtime.speech_lm import SpeechLM
from ...checkpoint.checkpoint import CONFIG, Checkpoint
from ...model.families.family import load_model
from ...model.spec import SpeechModelSpec
from ...options import BuildOptions
from ...pipeline import build
from .files import read_recorded

ATOL = 5e-3  # of the logits, whose scale is about 30 in the recorded models
ATOL_OF_64 = 1e-2  # of those without casts: float32 itself is up to 4e-3 away from them
RECORDED = {method.recorded_as: method for method in METHODS.values() if method.recorded_as}
"""By the name in a recording."""
SCHEDULES = {"none": "single", "constant": "constant", "decay": "decay"}
MODEL_SETTINGS = ("seq_length", "use_dynamic_ntk", "use_logn_attn")  # of config.json, that an edge changes
Floats = npt.NDArray[np.floating[Any]]
Report = Callable[["GoldenResult"], None]


@dataclass(frozen=True)
class GoldenResult:
    """One recorded setting against ours."""

    index: int
    label: str
    lengths_match: bool
    tokens_match: bool
    alpha_matches: bool  # of the rotary base, where it is recorded
    logit_error: float  # largest absolute difference, fed the recorded tokens
    atol: float

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        agrees = self.lengths_match and self.tokens_match and self.alpha_matches
        return agrees and self.logit_error <= self.atol


@dataclass(frozen=True)
class Setting:
    """One recorded setting: what was asked for, and what came out."""

    name: str  # in messages, and of its profile
    label: str
    profile: Profile
    kv_lengths: tuple[int, ...]  # of rows that steps see
    tokens: tuple[int, ...]
    logits: Floats  # (tokens, vocab)
    logits_name: str  # in the recording
    atol: float
    prompt_rows: int
    alpha: int | None  # of the rotary base; None: not recorded
    changes: tuple[tuple[str, Any], ...] = ()  # settings of config.json, instead of the model's own


@dataclass(frozen=True)
class Golden:
    """A recorded prompt and its settings."""

    mel: npt.NDArray[np.float32]  # (bins, frames), filled up with silence
    mel_frames: int  # of these carry audio
    ids: npt.NDArray[np.int64]  # (prompt,)
    span: tuple[int, int]  # places of the first and the last audio row, which are bos and eos
    settings: tuple[Setting, ...]

    def window(self, config: Features) -> tuple[npt.NDArray[np.float32], int]:
        """The frames that the encoder reads, and its rows that carry audio."""
        rows = config.rows_of(self.mel_frames)
        return np.ascontiguousarray(self.mel[:, : config.frames_per_row * rows]), rows


def check_golden(
    folder: Path, checkpoint: Path, report: Report = lambda _: None, atol: float | None = None
) -> list[GoldenResult]:
    """Build the checkpoint under every recorded setting and compare.

    Args:
        folder: the recorded outputs.
        checkpoint: the model, often the same folder.
        report: called with each result as it comes.
        atol: tolerance of the logits, instead of the one of what is recorded.

    Raises:
        CheckpointError: the recording is incomplete, does not fit the model or names an unknown method.
        DependencyError: safetensors is not installed.
    """
    golden, results = read_golden(folder), list[GoldenResult]()
    with temporary_folder() as scratch:
        parts = [
            (_changed(checkpoint, dict(changes), scratch / f"model-{i}"), tuple(settings))
            for i, (changes, settings) in enumerate(groupby(golden.settings, lambda one: one.changes))
        ]
        faults = [
            fault
            for source, settings in parts
            for fault in _faults(golden, settings, load_model(Checkpoint(source)))
        ]
        if faults:
            found = "; ".join(dict.fromkeys(faults))
            raise CheckpointError(f"recorded outputs {folder}: {found}; record them with this model")
        for i, (source, settings) in enumerate(parts):
            target = scratch / f"artifact-{i}"
            build(source, target, BuildOptions(tuple(one.profile for one in settings), weights="copy"))
            model = SpeechLM.load(target, prepack=False)
            rows = model.audio_encoder.encode_window(*golden.window(model.manifest.front_end.log_mel))
            for setting in settings:
                results.append(_compare(model, golden, rows, setting, len(results), atol))
                report(results[-1])
            model.close()
            shutil.rmtree(target)
    return results


def _changed(checkpoint: Path, changes: Mapping[str, Any], folder: Path) -> Path:
    """The checkpoint, or one of the same files with other settings."""
    if not changes:
        return checkpoint
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).symlink_to(path.absolute())
    (folder / CONFIG).unlink()
    (folder / CONFIG).write_text(json.dumps({**Checkpoint(checkpoint).config, **changes}), "utf-8")
    return folder


def read_golden(folder: Path) -> Golden:
    """Read the recorded settings and arrays; errors as `check_golden`."""
    return read_recorded(folder, _golden)


def _golden(content: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Golden:
    if wrong := sorted(name for name, array in arrays.items() if not np.isfinite(array).all()):
        raise ValueError(f"numbers in {', '.join(wrong)} are not finite")
    config, prompt = content["config"], arrays["input_ids"][0].astype(np.int64, casting="safe")
    if not content["settings"]:
        raise ValueError("golden.json has no setting")
    start, end = map(operator.index, config["span"])
    reader = _SettingReader(arrays, len(prompt), end - start)
    return Golden(
        mel=arrays["mel"][0, :, :].astype(np.float32),
        mel_frames=operator.index(config["mel_frames"]),
        ids=prompt,
        span=(start, end),
        settings=(
            *(reader.read("", i, entry) for i, entry in enumerate(content["settings"])),
            *(reader.read("edge_", i, entry) for i, entry in enumerate(content.get("edge_settings", ()))),
        ),
    )


@dataclass(frozen=True)
class _SettingReader:
    """Reads the entries of golden.json beside the arrays that belong to them."""

    arrays: Mapping[str, npt.NDArray[Any]]
    prompt_rows: int
    span_rows: int  # of the audio, with the row before it

    def read(self, kind: str, i: int, entry: Mapping[str, Any]) -> Setting:
        """One setting; `kind` begins the name of its logits."""
        if not isinstance(entry, dict):
            raise TypeError(f"setting {i} is {shown(entry)}, not an object")
        name, rows = f"{kind}setting {i}".replace("_", " "), entry.get("prompt_length", self.prompt_rows)
        widened = f"{kind}logits64.{i}" in self.arrays
        logits_name = f"{kind}logits{'64' if widened else ''}.{i}"
        profile, lengths = self._profile(name, operator.index(rows), entry)
        changes = {key: entry[key] for key in MODEL_SETTINGS if kind and key in entry}
        return Setting(
            name=name,
            label=_label(entry, changes),
            profile=profile,
            kv_lengths=lengths,
            tokens=tuple(map(operator.index, entry["tokens"])),
            logits=self.arrays[logits_name],
            logits_name=logits_name,
            atol=ATOL_OF_64 if widened else ATOL,
            prompt_rows=operator.index(rows),
            alpha=entry.get("ntk_alpha"),
            changes=tuple(changes.items()),
        )

    def _profile(self, name: str, rows: int, entry: Mapping[str, Any]) -> tuple[Profile, tuple[int, ...]]:
        """What was asked for, and the rows that steps see in each layer."""
        keys = ("method", "schedule", "start_layer", "ratio")
        method, schedule, start, ratio = (entry[key] for key in keys)
        lengths = tuple(map(operator.index, entry["kv_lengths"]))
        if method not in RECORDED or schedule not in SCHEDULES or not 0 <= ratio < 1:
            raise ValueError(
                f"{name}: {method} with schedule {schedule} and ratio {ratio} is not known; methods: "
                f"{', '.join(RECORDED)}; schedules: {', '.join(SCHEDULES)}; ratios: at least 0 and below 1"
            )
        slug, ours = name.replace(" ", "-"), RECORDED[method]
        if not ours.reduces:
            return Profile(slug, ours.name), lengths  # recorded with a start layer beyond the last
        if not ours.is_of_caches:
            reduction = SCHEDULES[schedule], start, Fraction(str(ratio))
            return Profile(slug, ours.name, *reduction, include_audio_bos=True), lengths
        evicted = rows - int(np.float32(rows - self.span_rows) + np.float32(ratio) * self.span_rows)
        share = Fraction(evicted, self.span_rows)  # `ratio` of what is kept, rounded as there
        profile = Profile(slug, ours.name, "constant", start, ratio=share, include_audio_bos=True)
        return profile, tuple(all_ - evicted * (i >= start) for i, all_ in enumerate(lengths))


def _label(entry: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    asked = "{method} {schedule} start {start_layer} ratio {ratio}".format_map(entry)
    return " ".join([asked, *(f"{key} {value}" for key, value in changes.items() if value is not True)])


def _faults(golden: Golden, settings: Sequence[Setting], model: SpeechModelSpec) -> Iterator[str]:
    """Why this model cannot have given these settings of the recording."""
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
    for setting in settings:
        if not end + 1 < setting.prompt_rows <= num_ids:
            yield f"{setting.name}: its prompt has {setting.prompt_rows} rows, {end + 2} to {num_ids} do"
        if (length := setting.prompt_rows + len(setting.tokens) - 1) > positions:
            yield f"{setting.name}: {length} rows exceed the {positions} positions of the model"
        if not setting.tokens or setting.logits.shape != (len(setting.tokens), vocab):
            shape, tokens = setting.logits.shape, len(setting.tokens)
            yield f"{setting.logits_name} {shape} does not fit {tokens} tokens of {vocab}"
        text += setting.tokens
    if wrong := [token for token in text if not 0 <= token < vocab]:
        yield f"token {wrong[0]} is not one of the model's {vocab}"


def _compare(
    model: SpeechLM, golden: Golden, rows: Floats, setting: Setting, i: int, atol: float | None
) -> GoldenResult:
    ids, (start, end) = golden.ids[: setting.prompt_rows], golden.span
    vocab, context = model.manifest.decoder.dims.vocab_size, model.manifest.decoder.long_context
    alpha = context.rope_alpha(len(ids)) if context else 1
    decoder = model.decoder(setting.profile.name, ids[:start], rows, ids[end + 1 :])
    tops = [decoder.start(vocab)]
    tops += [decoder.step(np.array([token]), np.array([0]), vocab) for token in setting.tokens[:-1]]
    ours = np.concatenate([top.logits[:, top.ids[0].argsort()] for top in tops])  # by token, not by rank
    return GoldenResult(
        index=i,
        label=setting.label,
        lengths_match=decoder.cache.prefix_lengths == setting.kv_lengths,
        tokens_match=tuple(ours.argmax(-1).tolist()) == setting.tokens,
        alpha_matches=setting.alpha in (None, alpha),
        logit_error=float(np.abs(ours - setting.logits).max()),
        atol=setting.atol if atol is None else atol,
    )
