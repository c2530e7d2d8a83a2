"""Parity with a recording of the whole path: samples to audio rows, prompts to strengths, both to tokens.

The folder holds golden.json (waves, prompts with their ids, cases with greedy tokens) and golden.safetensors
(wave/W, and of a run in float64 audio_embeds/W, scale/P, logits_gen_tail/C, logits_full_tail/C). Every case
was recorded twice: with the first id after the audio replaced, as the original generates, and with the ids as
they are. Nothing in it needs a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....profiles import signature as sig
from ....profiles.errors import CheckpointError
from ....profiles.json_text import JsonError, read_object
from ....profiles.methods import FULL
from ....profiles.profile import load_profile
from ....profiles.temporary import temporary_folder
from ....runtime.audio.encoder import EncodedAudio
from ....runtime.decoding.drive import Decoder
from ....runtime.prompt import PromptIds
from ....runtime.speech_lm import SpeechLM
from ...options import BuildOptions
from ...pipeline import build
from .files import FILES, read_recorded

Floats = npt.NDArray[np.floating[Any]]
Report = Callable[["Agreement"], None]

ROWS_ATOL, STRENGTH_ATOL, LOGITS_ATOL = 1e-4, 1e-4, 1e-3
VARIANTS = {"gen": "first id after the audio replaced", "full": "ids as they are"}
"""What a case was recorded with, by its name in the recording."""


@dataclass(frozen=True)
class Agreement:
    """One recorded value against ours."""

    label: str
    value: str  # audio rows, strength, logits
    error: float  # largest absolute difference
    atol: float
    faults: tuple[str, ...] = ()  # what else differs

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return self.error <= self.atol and not self.faults


@dataclass(frozen=True)
class Case:
    """One wave and one prompt, as they were recorded in one of two ways."""

    label: str
    wave: str
    prompt: PromptIds
    tokens: tuple[int, ...]
    logits: Floats  # before each token, the ones before it given: (tokens, vocabulary)


@dataclass(frozen=True)
class Recording:
    """All of a folder."""

    waves: Mapping[str, npt.NDArray[np.float32]]
    rows: Mapping[str, Floats]  # by wave: (audio rows, hidden_size)
    prompts: Mapping[str, npt.NDArray[np.int64]]  # ids of the prompt adapter
    strengths: Mapping[str, Floats]  # by prompt: (hidden_size,)
    cases: tuple[Case, ...]


def is_whole_path(folder: Path) -> bool:
    """Whether a folder holds such a recording."""
    try:
        return "waves" in read_object((folder / FILES[0]).read_bytes(), lenient=True)
    except (OSError, JsonError):
        return False


def check_whole_path(folder: Path, checkpoint: Path, report: Report = lambda _: None) -> list[Agreement]:
    """Build the checkpoint and compare every recorded value, in float64 there and in float32 here.

    Args:
        folder: the recording.
        checkpoint: the model, often the same folder.
        report: called with each result as it comes.

    Raises:
        CheckpointError: the recording is incomplete or does not fit the model.
        DependencyError: safetensors is not installed.
    """
    recording, found = read_recording(folder), list[Agreement]()
    with temporary_folder() as scratch:
        artifact = scratch / "artifact"
        build(checkpoint, artifact, BuildOptions((load_profile(FULL),), weights="copy"))
        with SpeechLM.load(artifact, prepack=False) as model:
            if faults := list(_faults(recording, model)):
                raise CheckpointError(
                    f"recorded outputs {folder}: {'; '.join(faults)}; record them with this model"
                )
            for agreement in _agreements(model, recording):
                found.append(agreement)
                report(agreement)
    return found


def read_recording(folder: Path) -> Recording:
    """Read all of it; errors as `check_whole_path`."""
    return read_recorded(folder, _recording)


def _recording(content: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Recording:
    if wrong := sorted(name for name, array in arrays.items() if not np.isfinite(array).all()):
        raise ValueError(f"numbers in {', '.join(wrong)} are not finite")
    if not content["cases"]:
        raise ValueError("golden.json has no case")
    waves, prompts = content["waves"], content["prompts"]
    return Recording(
        waves={name: arrays[f"wave/{name}"].astype(np.float32) for name in waves},
        rows={name: arrays[f"f64/audio_embeds/{name}"] for name in waves},
        prompts={name: np.array(prompt["adapter_ids"], np.int64) for name, prompt in prompts.items()},
        strengths={name: arrays[f"f64/scale/{name}"] for name in prompts},
        cases=tuple(
            _case(name, case, prompts[str(case["prompt"])], variant, arrays)
            for name, case in content["cases"].items()
            for variant in VARIANTS
        ),
    )


def _case(
    name: str,
    case: Mapping[str, Any],
    prompt: Mapping[str, Any],
    variant: str,
    arrays: Mapping[str, npt.NDArray[Any]],
) -> Case:
    left, right, tokens = prompt["left_ids"], prompt["right_ids"], tuple(case[variant]["tokens"])
    if variant == "gen":
        right = [left[0], *right[1:]]
    logits = arrays[f"f64/logits_{variant}_tail/{name}"]  # rows of the text after the audio come first
    last = len(right) - 1 if variant == "gen" else 0
    return Case(
        label=f"{name}, {VARIANTS[variant]}",
        wave=case["wave"],
        prompt=PromptIds(left, right, np.array(prompt["adapter_ids"], np.int64)),
        tokens=tokens,
        logits=logits[last : last + len(tokens)],
    )


def _faults(recording: Recording, model: SpeechLM) -> Iterator[str]:
    """Why this model cannot have given the recording."""
    decoder = model.manifest.decoder
    if not decoder.has_prompt_adapter:
        yield "the model has no prompt adapter, and the recording has strengths of LoRA"
    for name, strength in recording.strengths.items():
        if strength.shape != (decoder.dims.hidden_size,):
            yield f"scale/{name} {strength.shape} does not fit hidden size {decoder.dims.hidden_size}"
    for case in recording.cases:
        if case.logits.shape != (len(case.tokens), decoder.dims.vocab_size):
            yield (
                f"logits of {case.label} {case.logits.shape} do not fit {len(case.tokens)} tokens of "
                f"{decoder.dims.vocab_size}"
            )


def _agreements(model: SpeechLM, recording: Recording) -> Iterator[Agreement]:
    heard = {name: model.encode(wave) for name, wave in recording.waves.items()}
    for name, rows in recording.rows.items():
        yield _agreement(f"wave {name}", "audio rows", heard[name].rows, rows, ROWS_ATOL)
    for name, strength in recording.strengths.items():
        adapter = recording.prompts[name]
        found = model.request_inputs(adapter)[sig.LORA_SCALE]
        yield _agreement(f"prompt {name}", "strength", found, strength, STRENGTH_ATOL)
    for case in recording.cases:
        yield _case_agreement(model, heard[case.wave], case)


def _case_agreement(model: SpeechLM, audio: EncodedAudio, case: Case) -> Agreement:
    prompt, vocabulary = case.prompt, model.manifest.decoder.dims.vocab_size
    decoder = model.decoder(FULL, prompt.before, audio.rows, prompt.after, adapter=prompt.adapter)
    logits = _forced(decoder, case.tokens, vocabulary)
    answer = model.generate(audio, prompt, num_beams=1, max_new_tokens=len(case.tokens))
    faults = () if answer.hypotheses[0].tokens == case.tokens else ("tokens differ",)
    return _agreement(f"case {case.label}", "logits", logits, case.logits, LOGITS_ATOL, faults)


def _forced(decoder: Decoder, tokens: tuple[int, ...], vocabulary: int) -> Floats:
    """The scores before each token, the recorded ones before it given: (tokens, vocabulary)."""
    tops = [decoder.start(vocabulary)]
    tops += [decoder.step(np.array([token]), np.array([0]), vocabulary) for token in tokens[:-1]]
    return np.concatenate([top.logits[:, top.ids[0].argsort()] for top in tops])  # by token, not by rank


def _agreement(
    label: str, value: str, ours: Floats, theirs: Floats, atol: float, faults: tuple[str, ...] = ()
) -> Agreement:
    if ours.shape != theirs.shape:
        lengths = f"{value} are {ours.shape}, recorded {theirs.shape}"
        return Agreement(label, value, float("inf"), atol, (*faults, lengths))
    return Agreement(label, value, float(np.abs(ours - theirs).max()), atol, faults)
