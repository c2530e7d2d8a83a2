"""The life of a loaded model: it is closed, never copied, and says so when its artifact has gone."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastadasp.profiles.errors import ArtifactError, RequestError
from fastadasp.runtime import SpeechLM

SOUND = np.full(16000, 0.1, np.float32)


@pytest.fixture
def model(tiny_artifact: Path) -> SpeechLM:
    return SpeechLM.load(tiny_artifact, threads=1)


USES: list[Callable[[SpeechLM], Any]] = [
    lambda model: model.generate(SOUND, "hello", max_new_tokens=2),
    lambda model: model.stream(SOUND, "hello", max_new_tokens=2),
    lambda model: model.encode(SOUND),
    lambda model: model.device,
    lambda model: model.__enter__(),
]


@pytest.mark.parametrize("use", USES, ids=["generate", "stream", "encode", "device", "with"])
def test_a_closed_model_says_so(model: SpeechLM, use: Callable[[SpeechLM], Any]) -> None:
    use(model)
    model.close()
    model.close()
    assert "full" in model.profiles
    with pytest.raises(RequestError, match="the model is closed; load the artifact again"):
        use(model)


def test_the_end_of_a_block_closes(tiny_artifact: Path) -> None:
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        audio = model.encode(SOUND)
        assert model.generate(audio, "hello", max_new_tokens=2).hypotheses
    with pytest.raises(RequestError, match="is closed"):
        model.generate(audio, "hello")


def test_sessions_go_when_a_model_is_closed_though_audio_of_it_stays(model: SpeechLM) -> None:
    audio = model.encode(SOUND)
    sessions = weakref.ref(model._sessions)
    encoder = weakref.ref(model._sessions.encoder)
    model.close()
    gc.collect()
    assert sessions() is encoder() is None
    assert len(audio.rows)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("part", ["model", "audio"])
def test_a_model_has_no_copy(model: SpeechLM, copied: Callable[[object], object], part: str) -> None:
    found = model if part == "model" else model.audio_encoder
    with pytest.raises(RequestError, match="neither copied nor pickled; share it between threads, and in"):
        copied(found)


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_an_artifact_that_goes_under_its_model(tiny_artifact: Path, tmp_path: Path, moved: bool) -> None:
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    model = SpeechLM.load(folder, "full", threads=1)
    if moved:
        folder.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(folder)
    assert model.generate(SOUND, "hello", max_new_tokens=2).hypotheses
    with pytest.raises(ArtifactError) as caught:
        model.generate(SOUND, "hello", profile="own-30")
    assert str(caught.value) == (
        f"artifact {folder}: prefill.own-30.onnx has gone since the model was loaded; "
        "put the artifact back, or load it from where it is now"
    )
