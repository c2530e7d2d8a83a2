"""What an encoder graph says of its rows is what transformers' own attention says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from conftest import noise
from encoder_graphs import write
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.write import ENCODER_FILE
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.families.qwen2_audio import REFERENCE
from fastadasp.export.reference.model import load_reference
from fastadasp.export.reference.row_weights import row_weights
from fastadasp.profiles.signature import AUDIO_EMBEDS, ENCODER_ROWS, MEL, ROW_WEIGHTS
from fastadasp.runtime.audio.log_mel import log_mel_windows
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession

pytestmark = pytest.mark.usefixtures("one_thread")
LENGTHS = (961, 3841, 20001, 32000)  # samples; the last is a window


@pytest.fixture(scope="module")
def reference(tiny_checkpoint):
    return load_reference(tiny_checkpoint)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """The outputs of an encoder for a window, with or without what it says of its rows."""
    sessions = {}
    for weighs in (False, True):
        folder = tmp_path_factory.mktemp("encoder") / "graph"
        write(folder, model, OnnxRuntimeLowering(), weighs_rows=weighs)
        sessions[weighs] = OnnxRuntimeSession(folder / ENCODER_FILE, {}, threads=1)

    def run_one(window, weighs):
        session, rows = sessions[weighs], np.array([window.encoder_rows])
        outputs = session.run({MEL: window.mel, ENCODER_ROWS: rows})
        return {name: session.read(tensor) for name, tensor in outputs.items()}

    return run_one


def windows(model, samples):
    return log_mel_windows(noise(samples / 16000), model.front_end.log_mel)


@pytest.mark.parametrize("samples", LENGTHS)
def test_weights_are_means_and_diagonal_of_the_largest_probability_of_all_heads(
    samples, model, reference, run
):
    (window,) = windows(model, samples)
    config, size = model.front_end.log_mel, model.front_end.rows_per_token
    whole = np.zeros((len(window.mel), config.max_frames), np.float32)
    whole[:, : window.mel.shape[1]] = window.mel
    frames = config.frames_per_row * window.encoder_rows
    encode = partial(REFERENCE.encode_window, reference, whole, frames)
    rows, expected = row_weights(reference, REFERENCE.encoder, encode, size)
    found = run(window, True)
    assert expected.shape == (model.front_end.tokens_of(window.encoder_rows), 2)
    np.testing.assert_allclose(found[ROW_WEIGHTS], expected, rtol=2e-5)
    np.testing.assert_allclose(found[AUDIO_EMBEDS], rows, atol=2e-4)


@pytest.mark.parametrize("samples", LENGTHS)
def test_saying_it_changes_no_bit_of_the_rows(samples, model, run):
    (window,) = windows(model, samples)
    plain = run(window, False)
    assert set(plain) == {AUDIO_EMBEDS}
    np.testing.assert_array_equal(run(window, True)[AUDIO_EMBEDS], plain[AUDIO_EMBEDS])


def test_rows_of_silence_in_a_full_window_are_attended_to_but_say_nothing(model, reference, tmp_path):
    """All of the window is encoded, and of its rows an odd number carries audio."""
    heard, tower = 31, reference.model.audio_tower
    config = replace(model.front_end.log_mel, full_windows=True)
    full = replace(model, front_end=replace(model.front_end, log_mel=config))
    write(tmp_path / "full", full, OnnxRuntimeLowering(), weighs_rows=True)
    session = OnnxRuntimeSession(tmp_path / "full" / ENCODER_FILE, {}, threads=1)
    (window,) = windows(full, 9000)

    def encode():
        with torch.no_grad():
            hidden = tower(torch.from_numpy(window.mel)[None]).last_hidden_state
            return reference.model.multi_modal_projector(hidden)[0, : heard // 2].numpy()

    rows, expected = row_weights(reference, REFERENCE.encoder, encode, 2)
    outputs = session.run({MEL: window.mel, ENCODER_ROWS: np.array([heard])})
    np.testing.assert_allclose(session.read(outputs[AUDIO_EMBEDS]), rows, atol=2e-4)
    np.testing.assert_allclose(session.read(outputs[ROW_WEIGHTS]), expected, rtol=2e-5)
