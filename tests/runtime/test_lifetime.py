"""The life of a loaded model: it is closed, never copied, and says if its artifact has gone or changed."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.swap import replace
from fastadasp.profiles.errors import ArtifactError, RequestError
from fastadasp.profiles.locked import remove
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact import verification
from fastadasp.runtime.artifact.artifact import open_artifact

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
    sessions = weakref.ref(model._loaded.sessions)
    encoder = weakref.ref(model._loaded.sessions.encoder)
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


@pytest.fixture
def own_artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


@pytest.fixture(scope="module")
def other_artifact(
    tiny_checkpoint: Path, tiny_profile_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As `tiny_artifact`, with other weights, and graphs of other ratios under the same names."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path_factory.mktemp("other")
    checkpoint = Path(shutil.copytree(tiny_checkpoint, folder / "checkpoint"))
    weights = checkpoint / "model.safetensors"
    save_file({name: 0.5 * it for name, it in load_file(weights).items()}, weights, {"format": "pt"})
    own = (tiny_profile_folder / "own-30.toml").read_text("utf-8")
    (folder / "own-30.toml").write_text(own.replace("0.3", "0.6"), "utf-8")
    profiles = tuple(load_profile(name, (folder,)) for name in ("full", "dense-constant-20", "own-30"))
    build(checkpoint, folder / "artifact", BuildOptions(profiles, weights="copy"))
    return folder / "artifact"


def swap(place: Path, new: Path) -> None:
    """What `build --force` does in the end."""
    remove(replace(Path(shutil.copytree(new, place.with_name("new"))), place))


def scores(model: SpeechLM, profile: str) -> list[tuple[tuple[int, ...], float]]:
    result = model.generate(SOUND, "hello", profile=profile, max_new_tokens=4)
    return [(tuple(it.tokens), it.score) for it in result.hypotheses]


def test_a_replaced_artifact_is_served_to_its_end_or_named(own_artifact: Path, other_artifact: Path) -> None:
    model = SpeechLM.load(own_artifact, "full", threads=1)
    before = scores(model, "full")
    assert scores(SpeechLM.load(other_artifact, threads=1), "full") != before
    swap(own_artifact, other_artifact)
    assert scores(model, "full") == before
    with pytest.raises(ArtifactError) as caught:
        scores(model, "own-30")
    assert str(caught.value) == (
        f"artifact {own_artifact}: prefill.own-30.onnx has changed since the artifact was opened "
        f"(it {_fault_of('prefill.own-30.onnx', own_artifact, model)}); load the artifact again"
    )


def _fault_of(name: str, folder: Path, model: SpeechLM) -> str:
    size, wanted = (folder / name).stat().st_size, model.manifest.files[name].size
    return "does not match its hash" if size == wanted else f"has {size} bytes instead of {wanted}"


def test_an_artifact_that_is_built_again_as_it_was_is_served_on(
    own_artifact: Path, tiny_artifact: Path
) -> None:
    model = SpeechLM.load(own_artifact, "full", threads=1)
    swap(own_artifact, tiny_artifact)
    assert scores(model, "own-30") == scores(SpeechLM.load(tiny_artifact, threads=1), "own-30")


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_weights_that_are_replaced_before_they_are_mapped(
    own_artifact: Path, other_artifact: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size and time of the new file are those of the old one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_artifact.with_name("cache")))
    monkeypatch.setattr(verification, "LARGE_BYTES", 0 if large else 1 << 30)
    opened = open_artifact(own_artifact)
    weights = "weights/model.safetensors"
    before = (own_artifact / weights).stat()
    shutil.copyfile(other_artifact / weights, own_artifact / weights)
    os.utime(own_artifact / weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (own_artifact / weights).stat().st_size == before.st_size
    with pytest.raises(ArtifactError, match=r"model\.safetensors has changed since the artifact was opened"):
        SpeechLM(opened)


def test_an_artifact_that_is_replaced_between_opening_and_mapping(
    own_artifact: Path, other_artifact: Path
) -> None:
    opened = open_artifact(own_artifact)
    swap(own_artifact, other_artifact)
    with pytest.raises(ArtifactError, match="has changed since the artifact was opened"):
        SpeechLM(opened)


@pytest.mark.parametrize("files", [1, 4])
def test_an_artifact_that_is_replaced_while_its_files_are_verified(
    own_artifact: Path, other_artifact: Path, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, first_fault = 0, verification.Verifier.first_fault

    def swapped(*args: Any) -> str | None:
        nonlocal count
        count += 1
        if count == files:
            swap(own_artifact, other_artifact)
        return first_fault(*args)

    monkeypatch.setattr(verification.Verifier, "first_fault", swapped)
    with pytest.raises(ArtifactError, match="it was replaced while it was opened; open it again"):
        SpeechLM.load(own_artifact, threads=1)
