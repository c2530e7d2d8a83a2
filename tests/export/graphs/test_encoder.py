"""The encoder gives the rows that the front end counts, whatever it pools, and those of transformers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import noise
from fastadasp.export.calibration.clips import audio_encoder
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.reference.model import load_reference
from fastadasp.runtime.audio.log_mel import log_mel_windows
from fastadasp.runtime.latency import Stopwatch

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = 32000  # samples of the tiny model
LENGTHS = (1, 321, 961, 2000, 3841, 20001, WINDOW, WINDOW + 1, WINDOW + 9000, 2 * WINDOW + 641)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint):
    return load_reference(tiny_checkpoint)


@pytest.fixture(params=[1, 2, 3, 4], ids="{} rows a token".format)
def pooled(request, tiny_checkpoint):
    """The tiny model with another pooling."""
    model = load_model(Checkpoint(tiny_checkpoint))
    return replace(model, front_end=replace(model.front_end, rows_per_token=request.param))


def full(model):
    """The same model, whose windows are always full."""
    config = replace(model.front_end.log_mel, full_windows=True)
    return replace(model, front_end=replace(model.front_end, log_mel=config))


@pytest.mark.parametrize("change", [lambda model: model, full], ids=["as long as the audio", "full windows"])
def test_the_encoder_gives_the_rows_that_the_front_end_counts(pooled, change, reference):
    model = change(pooled)
    with audio_encoder(model, threads=1) as encoder:
        for n in LENGTHS:
            if not model.front_end.audio_tokens(n):
                continue
            found = encoder.encode(noise(n / 16000), Stopwatch())
            assert len(found) == model.front_end.decoder_rows(n)
            expected = torch_rows(reference, model.front_end, noise(n / 16000))
            np.testing.assert_allclose(found, expected, atol=2e-4)


def torch_rows(reference, front_end, samples):
    """transformers' encoder with this pooling, over whole windows whose silent rows are masked."""
    tower, size = reference.model.audio_tower, front_end.rows_per_token
    whole = replace(front_end.log_mel, full_windows=True)
    parts = []
    for window, counted in zip(
        log_mel_windows(samples, whole), log_mel_windows(samples, front_end.log_mel), strict=True
    ):
        mask = torch.zeros(whole.max_rows)
        mask[counted.encoder_rows :] = torch.finfo(torch.float32).min
        pooler, tower.avg_pooler = tower.avg_pooler, torch.nn.AvgPool1d(size)
        try:
            with torch.no_grad():
                mel = torch.from_numpy(window.mel)[None]
                hidden = tower(mel, attention_mask=mask.expand(1, 1, len(mask), -1)).last_hidden_state
                rows = reference.model.multi_modal_projector(hidden)[0]
        finally:
            tower.avg_pooler = pooler
        parts.append(rows[: front_end.tokens_of(counted.encoder_rows)].numpy())
    return np.concatenate(parts)
