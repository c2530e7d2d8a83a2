"""Calibration clips as the decoder meets them: audio by the runtime's front end, text by the template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...evaluation.clips.clip import Clip
from ...profiles.errors import AudioError
from ...profiles.temporary import temporary_folder
from ...runtime.audio.encoder import AudioEncoder
from ...runtime.audio.read import Audio, load_audio, place_of
from ...runtime.latency import Stopwatch
from ...runtime.onnxruntime.session import OnnxRuntimeSession
from ...runtime.prompt import PromptIds
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.tokenizer import prompt_codec
from ..checkpoint.weights import Converted
from ..graphs.lowering.lowering import Lowering
from ..graphs.lowering.onnxruntime import OnnxRuntimeLowering
from ..graphs.write import ENCODER_FILE, WAVE_ENCODER_FILE, build_tower
from ..model.spec import SpeechModelSpec, tensors_of
from ..reference.reduction import Span
from ..reference.spec_decoder import SpecDecoder, Torch

Floats = npt.NDArray[np.float32]
ONNX_RUNTIME = OnnxRuntimeLowering()


@dataclass(frozen=True)
class ClipInput:
    """A clip as the decoder gets it."""

    prompt: PromptIds
    audio: Floats  # (audio rows, hidden_size)
    seconds: float
    answer: npt.NDArray[np.int64]  # ids of the first reference, (answer,)


class Calibration:
    """The way of a clip to the decoder, as in a built artifact."""

    def __init__(self, checkpoint: Checkpoint, model: SpeechModelSpec, encoder: AudioEncoder) -> None:
        """Read the tokenizer.

        Raises:
            CheckpointError: there is none.
        """
        self.model, self._codec = model, prompt_codec(checkpoint, model.prompt)
        self._encoder = encoder

    def read(self, clip: Clip) -> ClipInput:
        """Read one clip.

        Raises:
            AudioError: a file that cannot be read, or is too short or long for the model.
            RequestError: a prompt that does not fit the template.
        """
        sample_rate = self.model.front_end.log_mel.sample_rate
        audio = load_audio(clip.path, sample_rate)
        prompt = self._codec.encode(clip.prompt or None).about(audio.seconds)
        self._check(place_of(clip.path), audio, prompt)
        rows = self._encoder.encode(audio.samples, Stopwatch())
        return ClipInput(prompt, rows, audio.seconds, self._codec.answer_ids(clip.references[0]))

    def _check(self, place: str, audio: Audio, prompt: PromptIds) -> None:
        """Refuse audio that gives no row, or more rows than there are positions."""
        front_end, positions = self.model.front_end, self.model.decoder.max_positions
        around, frames = front_end.rows_around, front_end.audio_tokens(len(audio.samples))
        if not frames:
            raise AudioError(f"{place}: {audio.seconds * 1e3:.1f} ms give no audio token; give a longer clip")
        if frames + around + prompt.num_text_rows > positions:
            raise AudioError(
                f"{place}: {audio.seconds:.1f} s take {frames + around} rows beside {prompt.num_text_rows} "
                f"of prompt, and this model has {positions} positions: cut the audio"
            )


def prompt_rows(decoder: SpecDecoder, model: SpeechModelSpec, clip: ClipInput) -> tuple[Torch, Span]:
    """Text, audio and text as rows (rows, hidden_size), and where the audio frames are."""
    import torch

    before, after = decoder.embed(clip.prompt.before), decoder.embed(clip.prompt.after)
    front_end = model.front_end
    rows = torch.cat([before, decoder.entering(torch.as_tensor(clip.audio)), after])
    return rows, Span(len(before) + front_end.bos_rows, len(clip.audio) - front_end.rows_around)


@contextmanager
def audio_encoder(
    model: SpeechModelSpec, threads: int, lowering: Lowering = ONNX_RUNTIME
) -> Iterator[AudioEncoder]:
    """The audio tower as a build makes it, in a folder that lasts as long as it is used."""
    store = Converted(tensors_of(model.tower))
    graphs = build_tower(model, store, lowering)
    with temporary_folder() as folder:
        store.write(folder)
        sessions = {}
        for name, graph in graphs.items():
            (folder / name).write_bytes(graph.SerializeToString())
            sessions[name] = OnnxRuntimeSession(folder / name, {}, threads=threads)
        yield AudioEncoder(sessions[ENCODER_FILE], model.front_end, sessions.get(WAVE_ENCODER_FILE))
