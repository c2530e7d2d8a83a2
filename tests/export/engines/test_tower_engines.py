"""Engines for a tower of two encoders: built for an A100 on any machine, with the shapes of its front end."""

from __future__ import annotations

import pytest

from fastadasp.export.checkpoint.precision import BY_NAME
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.engines.engine import build_engine
from fastadasp.export.engines.messages import EngineRequest, Expected
from fastadasp.export.engines.shapes import encoder_profile, wave_encoder_profile
from fastadasp.export.graphs.lowering import unrolled
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import build_tower
from fastadasp.export.model.fit import decoder_rows
from fastadasp.export.model.spec import tensors_of
from fastadasp.export.options import EngineOptions
from torch_tower import CONFIG, random_tower, save_tower
from tower_files import load_tower

SECONDS = 8
WINDOW = CONFIG["chunk_samples"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower") / "checkpoint"
    save_tower(folder, random_tower())
    return load_tower(folder)


def test_the_shapes_are_those_of_the_front_end(model):
    """A window is always full; a clip is as short as one token needs."""
    shapes = encoder_profile(model, EngineOptions(max_audio_seconds=SECONDS)).shapes
    assert shapes["mel"] == ((16, 126),) * 3
    assert shapes["encoder_rows"] == ((1,), (63,), (63,))
    shapes = wave_encoder_profile(model, EngineOptions(max_audio_seconds=SECONDS)).shapes
    assert shapes["wave"] == ((400,), (64199,), (128399,))  # one more sample gives one more token
    assert shapes["window_embeds"] == ((1, 12), (4 * 16, 12), (7 * 16, 12))


def test_every_clip_of_the_longest_rows_fits(model):
    """Whatever its samples: limits are asked for in rows."""
    for seconds in (1, 2.5, 8, 61.3):
        rows = decoder_rows(model, seconds)
        most = wave_encoder_profile(model, EngineOptions(max_audio_seconds=seconds)).shapes["wave"][2][0]
        assert model.front_end.decoder_rows(most) == rows < model.front_end.decoder_rows(most + 1)


def test_the_memory_of_scores_sets_the_number_of_chunks():
    """Four minutes: 12,000 rows, whose scores would be 7 GB at once."""
    for seconds, chunks in ((30, 1), (60, 1), (120, 2), (240, 7)):
        lowering = TensorRTLowering(BY_NAME["bf16"], seconds * 25 // 2)
        assert lowering.relative_chunks(12) == chunks


@pytest.mark.parametrize(("precision", "chunks"), [("bf16", 1), ("bf16", 3), ("fp16", 3)])
def test_both_encoders_become_plans(model, tmp_path, monkeypatch, precision, chunks):
    pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")
    lowering = TensorRTLowering(BY_NAME[precision], rows := model.front_end.audio_tokens(SECONDS * 16000))
    heads = model.wave_encoder.num_heads
    monkeypatch.setattr(unrolled, "SCORE_BYTES", heads * (4 * rows) ** 2 * 4 / chunks)
    store = weight_store(list(tensors_of(model.tower)), "copy", BY_NAME[precision])
    store.write(tmp_path)
    graphs = build_tower(model, store, lowering)
    for file, profile, attentions in (
        ("encoder.onnx", encoder_profile(model, EngineOptions()), len(model.encoder.layers)),
        ("wave_encoder.onnx", wave_encoder_profile(model, EngineOptions(max_audio_seconds=SECONDS)), 0),
    ):
        if (precision, chunks) != ("bf16", 3) and file == "encoder.onnx":
            continue  # it knows no chunks, and is built in both precisions elsewhere
        (tmp_path / file).write_bytes(graphs[file].SerializeToString())
        request = EngineRequest(
            product="tensorrt_rtx",
            name=file,
            graph=tmp_path / file,
            plan=tmp_path / f"{file}.plan",
            profile=profile,
            sm=80,
            plugins=None,
            expected=Expected({}, attentions, causal=False),
        )
        build_engine(request, tmp_path / "log")
        assert request.plan.stat().st_size > 10_000
