"""The audio towers of recorded models, where they lie beside the clone: every step against its recording."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

from fastadasp.export.calibration.clips import audio_encoder
from fastadasp.runtime.audio.log_mel import log_mel_windows
from fastadasp.runtime.latency import Stopwatch
from torch_tower import TorchTower
from tower_files import load_tower

RECORDINGS = "FASTADASP_RECORDINGS"
FOLDER = Path(os.environ.get(RECORDINGS, "")) / "wavllm_tiny"
ATOL = 1e-4
WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(RECORDINGS not in os.environ, reason=f"{RECORDINGS} names no folder of recordings"),
]


@pytest.fixture(scope="module")
def recorded():
    return load_file(FOLDER / "golden.safetensors")


def waves(recorded):
    return [name.removeprefix("wave/") for name in recorded if name.startswith("wave/")]


def test_rows_of_windows_and_audio_rows_are_those_recorded(recorded):
    model = load_tower(FOLDER)
    with audio_encoder(model, threads=1) as encoder:
        for name in waves(recorded):
            wave = recorded[f"wave/{name}"]
            windows = list(log_mel_windows(wave, model.front_end.log_mel))
            mel = np.stack([window.mel for window in windows])
            np.testing.assert_allclose(mel, recorded[f"mel/{name}"], atol=ATOL)
            rows = np.concatenate([encoder.encode_window(each.mel, each.encoder_rows) for each in windows])
            for run in ("f32", "f64"):
                np.testing.assert_allclose(rows, recorded[f"{run}/whisper_out/{name}"], atol=ATOL)
                found = encoder.encode(wave, Stopwatch())
                np.testing.assert_allclose(found, recorded[f"{run}/audio_embeds/{name}"], atol=ATOL)
            assert len(found) == model.front_end.audio_tokens(len(wave))


def test_the_tower_in_torch_is_the_one_recorded(recorded):
    """It is what the graphs of other models are compared with."""
    tower = TorchTower(json.loads((FOLDER / "config.json").read_text("utf-8")))
    weights = load_torch(FOLDER / "model.safetensors")
    for old, new in WEIGHT_NORM.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    tower.load_state_dict({name: t for name, t in weights.items() if not name.startswith("gpt_model.")})
    for name in waves(recorded):
        wave = recorded[f"wave/{name}"]
        for step in ("whisper_out", "wavlm_out"):
            found = getattr(tower, step)(wave).numpy()
            np.testing.assert_allclose(found, recorded[f"f64/{step}/{name}"], atol=ATOL)
        hidden = np.stack([rows.numpy() for rows in tower.whisper_hidden(wave)])
        np.testing.assert_allclose(hidden, recorded[f"f32/whisper_hidden/{name}"], atol=ATOL)
        for run in ("f32", "f64"):
            if (states := recorded.get(f"{run}/wavlm_hidden/{name}")) is not None:
                np.testing.assert_allclose(tower.wavlm_hidden(wave).numpy(), states, atol=ATOL)
        np.testing.assert_allclose(tower(wave).numpy(), recorded[f"f64/audio_embeds/{name}"], atol=ATOL)
