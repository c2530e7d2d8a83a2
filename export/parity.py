"""Parity with recorded outputs of a reference implementation: lengths and tokens identical, logits close.

The folder holds golden.json (settings with KV lengths and greedy tokens) and golden.safetensors (mel,
audio_embeds, input_ids, logits.i). Nothing in it needs a tokenizer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..profiles.errors import CheckpointError
from ..profiles.profile import Profile
from ..runtime.artifact import open_artifact
from ..runtime.beam_search import TopTokens
from ..runtime.speech_lm import SpeechLM
from .pipeline import BuildOptions, build

ATOL = 5e-3  # of the logits, whose scale is about 30 in the recorded models
METHODS = {
    "full": "full",
    "merge_weighted": "weighted_merge",
    "merge_ave": "average_merge",
    "atome": "a_tome",
    "fastv_evict": "fastv",
}
SCHEDULES = {"none": "single", "constant": "constant", "decay": "decay"}
Floats = npt.NDArray[np.floating[Any]]


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
class Golden:
    """The recorded inputs."""

    config: Mapping[str, Any]
    settings: list[dict[str, Any]]
    arrays: Mapping[str, npt.NDArray[Any]]

    @property
    def mel(self) -> npt.NDArray[np.float32]:
        """The frames that carry audio: (bins, frames)."""
        frames: npt.NDArray[np.float32] = self.arrays["mel"][0][:, : self.config["mel_frames"]]
        return np.ascontiguousarray(frames, np.float32)

    @property
    def audio_places(self) -> npt.NDArray[np.int64]:
        """Positions of the prompt that audio rows fill, the rows before and after the frames included."""
        start, end = self.config["span"]
        return np.arange(start, end + 1)


def check_golden(
    folder: Path,
    checkpoint: Path,
    report: Callable[[GoldenResult], None] = lambda _: None,
    atol: float = ATOL,
) -> list[GoldenResult]:
    """Build the checkpoint under every recorded setting and compare.

    Args:
        folder: the recorded outputs.
        checkpoint: the model, often the same folder.
        report: called with each result as it comes.
        atol: tolerance of the logits.

    Raises:
        CheckpointError: the folder is incomplete or names a method that is not known.
    """
    golden = read_golden(folder)
    profiles = [_profile(i, setting) for i, setting in enumerate(golden.settings)]
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "artifact"
        build(checkpoint, target, BuildOptions(tuple(profiles), weights="copy"))
        model = SpeechLM(open_artifact(target), prepack=False)
        rows = _audio_rows(model, golden)
        for i, setting in enumerate(golden.settings):
            result = _compare(model, golden, rows, i, setting, profiles[i].name, atol)
            report(result)
            results.append(result)
    return results


def read_golden(folder: Path) -> Golden:
    """Read the recorded settings and arrays."""
    from safetensors.numpy import load_file

    paths = folder / "golden.json", folder / "golden.safetensors"
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"recorded outputs {folder}: {path.name} is missing")
    content = json.loads(paths[0].read_text("utf-8"))
    return Golden(content["config"], content["settings"], load_file(paths[1]))


def _profile(index: int, setting: Mapping[str, Any]) -> Profile:
    name = f"setting-{index}"
    if setting["method"] not in METHODS or setting["schedule"] not in SCHEDULES:
        raise CheckpointError(
            f"golden.json, setting {index}: {setting['method']} with schedule {setting['schedule']} is not known; "
            f"methods: {', '.join(METHODS)}; schedules: {', '.join(SCHEDULES)}"
        )
    if setting["method"] == "full":
        return Profile(name, "full")
    return Profile(
        name,
        METHODS[setting["method"]],
        SCHEDULES[setting["schedule"]],
        setting["start_layer"],
        ratio=Fraction(str(setting["ratio"])),
        include_audio_bos=True,
    )


def _audio_rows(model: SpeechLM, golden: Golden) -> npt.NDArray[np.float32]:
    """Our encoder's rows for the recorded mel; their own error is part of the logits' error."""
    encoder_rows = (golden.config["mel_frames"] - 1) // 2 + 1
    return model.encode_mel(golden.mel, encoder_rows)


def _compare(
    model: SpeechLM,
    golden: Golden,
    rows: npt.NDArray[np.float32],
    index: int,
    setting: Mapping[str, Any],
    profile: str,
    atol: float,
) -> GoldenResult:
    ids, places = golden.arrays["input_ids"][0], golden.audio_places
    before, after = ids[: places[0]], ids[places[-1] + 1 :]
    vocab = model.manifest.decoder.dims.vocab_size
    decoder = model.decoder(profile, before, rows, after)
    logits = [_all_logits(decoder.start(vocab))]
    for token in setting["tokens"][:-1]:
        logits.append(_all_logits(decoder.step(np.array([token]), np.array([0]), vocab)))
    ours, recorded = np.stack(logits), golden.arrays[f"logits.{index}"]
    label = (
        f"{setting['method']} {setting['schedule']} start {setting['start_layer']} ratio {setting['ratio']}"
    )
    return GoldenResult(
        index=index,
        label=label,
        lengths_match=list(decoder.cache.prefix_lengths) == setting["kv_lengths"],
        tokens_match=ours.argmax(-1).tolist() == setting["tokens"],
        logit_error=float(np.abs(ours - recorded).max()),
        atol=atol,
    )


def _all_logits(top: TopTokens) -> Floats:
    """The logits of one row in the order of the vocabulary."""
    logits = np.empty(top.logits.shape[1], np.float32)
    logits[top.ids[0]] = top.logits[0]
    return logits
