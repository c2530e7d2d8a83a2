"""Full TensorRT builds for the GPU that it runs on: engines for another one are refused before any work."""

from types import SimpleNamespace

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.engines import build
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import EngineOptions
from fastadasp.profiles.errors import EngineError


@pytest.fixture
def model(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(build, "CudaDevice", lambda: SimpleNamespace(name="H100", sm=90))
    return load_model(Checkpoint(tiny_checkpoint))


def options(engine, sm):
    return EngineOptions(engine, sm, max_audio_seconds=4, max_text_rows=64, max_new_tokens=16)


def test_another_gpu_than_that_of_the_build_is_refused(model):
    with pytest.raises(EngineError, match=r"sm is 80, and tensorrt builds .*, H100 of 90; give --sm 90"):
        build.check_engines(model, [], options("tensorrt", 80))


@pytest.mark.parametrize(("engine", "sm"), [("tensorrt", 90), ("tensorrt-rtx", 80)])
def test_the_gpu_of_the_build_is_taken_and_any_other_without_one(model, engine, sm):
    build.check_engines(model, [], options(engine, sm))
