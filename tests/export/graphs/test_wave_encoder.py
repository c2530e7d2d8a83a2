"""Both encoders of a tower together give the audio rows of torch, on the graphs of each backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import noise
from fastadasp.export.calibration.clips import audio_encoder
from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.graphs import wave_features
from fastadasp.export.graphs.lowering import unrolled
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.runtime.latency import Stopwatch
from torch_tower import CONFIG, random_tower, save_tower
from tower_files import load_tower

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = CONFIG["chunk_samples"]
LENGTHS = (400, 401, 719, 720, 5003, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 4 * WINDOW + 777)
ATOL = 1e-4  # of rows whose standard deviation is about 2


@pytest.fixture(scope="module")
def tower():
    return random_tower()


@pytest.fixture(scope="module")
def folder(tower, tmp_path_factory):
    path = tmp_path_factory.mktemp("tower") / "checkpoint"
    save_tower(path, tower)
    return path


def check_rows(model, tower, lengths, lowering=None):
    with audio_encoder(model, threads=1, lowering=lowering or OnnxRuntimeLowering()) as encoder:
        for n in lengths:
            samples = noise(n / 16000, seed=n) + np.float32(0.2)  # an offset, which no convolution hides
            found = encoder.encode(samples, Stopwatch())
            assert len(found) == model.front_end.decoder_rows(n)
            np.testing.assert_allclose(found, tower(samples).numpy(), atol=ATOL)


def test_the_rows_are_those_of_torch(folder, tower):
    """For one window and several, and lengths around every edge."""
    check_rows(load_tower(folder), tower, LENGTHS)


@pytest.mark.parametrize("chunk", [1, 7, 61])
def test_the_features_of_a_wave_do_not_depend_on_their_chunks(folder, tower, chunk, monkeypatch):
    monkeypatch.setattr(wave_features, "CHUNK", chunk)
    check_rows(load_tower(folder), tower, (400, 720, 5003, WINDOW + 1))


def test_a_channel_that_hears_almost_nothing_of_a_loud_wave_is_normalised(folder, tower):
    """Its variance is a small difference of large numbers."""
    seconds = np.arange(2 * WINDOW) / 16000
    loud = (0.9 * np.sin(2 * np.pi * 3 * seconds)).astype(np.float32) + noise(2 * WINDOW / 16000) / 3e3
    with audio_encoder(load_tower(folder), threads=1) as encoder:
        with torch.no_grad():
            whole = tower.double()(loud).float().numpy()
            tower.float()
        np.testing.assert_allclose(encoder.encode(loud, Stopwatch()), whole, atol=2e-4)


@pytest.mark.parametrize("chunks", [1, 3])
def test_the_graphs_for_tensorrt_are_the_same_function(folder, tower, chunks, monkeypatch):
    """In float32, on ONNX Runtime."""
    model = load_tower(folder)
    lowering = TensorRTLowering(FP32, rows := model.front_end.audio_tokens(4 * WINDOW + 777))
    heads = model.wave_encoder.num_heads
    monkeypatch.setattr(unrolled, "SCORE_BYTES", heads * (4 * rows) ** 2 * 4 / chunks)
    assert lowering.relative_chunks(heads) == chunks
    check_rows(model, tower, LENGTHS, lowering)


@pytest.mark.parametrize("chunks", [1, 3])
def test_the_graphs_for_cuda_are_the_same_function(folder, tower, chunks, monkeypatch):
    """In float32, on ONNX Runtime."""
    model = load_tower(folder)
    rows = model.front_end.audio_tokens(4 * WINDOW + 777)
    heads = model.wave_encoder.num_heads
    monkeypatch.setattr(unrolled, "SCORE_BYTES", heads * (4 * rows) ** 2 * 4 / chunks)
    check_rows(model, tower, LENGTHS, OnnxRuntimeCudaLowering(FP32, rows, rows))


@pytest.mark.parametrize("stored", [{"old_norm": True}, {"wrapped": True}], ids=str)
def test_every_spelling_of_a_checkpoint_is_read(tower, tmp_path, stored):
    save_tower(tmp_path / "checkpoint", tower, **stored)
    check_rows(load_tower(tmp_path / "checkpoint"), tower, (720, WINDOW + 1))


@pytest.mark.parametrize("seed", [3, 4])
def test_other_sizes_are_read(tmp_path, seed):
    """Another window, an odd kernel of positions, other widths and convolutions."""
    sizes = {
        "whisper_config": {"d_model": 20, "encoder_attention_heads": 2, "max_source_positions": 50 + seed},
        "wavlm_config": {
            "num_attention_heads": 4,
            "num_conv_pos_embeddings": 4 + seed,
            "conv_dim": [6, 4, 10],
            "conv_kernel": [10, 8, 3 + seed],
            "conv_stride": [5, 6, 3],
            "num_buckets": 8 * seed,
            "max_bucket_distance": 7 + 4 * seed,
        },
    }
    config = {name: {**section, **sizes.get(name, {})} for name, section in _sections(CONFIG).items()}
    config |= {name: CONFIG[name] for name in ("model_type", "sampling_rate")}
    config["chunk_samples"] = 320 * (50 + seed) + 13
    other = random_tower(config, seed)
    save_tower(tmp_path / "checkpoint", other)
    window = config["chunk_samples"]
    check_rows(load_tower(tmp_path / "checkpoint"), other, (720, window, window + 1, 3 * window + 500))


def _sections(config):
    return {name: section for name, section in config.items() if isinstance(section, dict)}


def test_weights_that_are_computed_stand_in_a_small_file(folder):
    from fastadasp.export.checkpoint.weights import weight_store

    model = load_tower(folder)
    with_files = weight_store(model.tensors, "link")
    assert [Path(file).name for file in with_files.files] == ["model.safetensors"]
    assert sum(np.prod(tensor.shape) for tensor in with_files.derived.tensors.values()) < 5000
