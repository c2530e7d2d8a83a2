"""An artifact with graphs for OpenVINO: the same answers, with steps on ONNX Runtime."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from conftest import OWN_PROFILE, noise
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import ArtifactError, DependencyError, RequestCancelled, RequestError
from fastadasp.runtime import Cancellation, SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession
from fastadasp.runtime.openvino import compiled
from fastadasp.runtime.openvino.options import OpenVinoOptions

pytest.importorskip("openvino")

EXACT = {"backend": "openvino", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def folder(tiny_checkpoint, tmp_path_factory):
    """An artifact of both targets."""
    own = tmp_path_factory.mktemp("profiles")
    (own / "own-30.toml").write_text(OWN_PROFILE, "utf-8")
    profiles = tuple(load_profile(name, (own,)) for name in ("full", "own-30"))
    artifact = tmp_path_factory.mktemp("built") / "artifact"
    build(tiny_checkpoint, artifact, BuildOptions(profiles, targets=("onnxruntime", "openvino")))
    return artifact


@pytest.fixture(scope="module")
def model(folder):
    with SpeechLM.load(folder, **EXACT, max_batch=4) as model:
        yield model


def answer(model, seconds=3.0, **options):
    result = model.generate(noise(seconds), "hello", max_new_tokens=12, min_new_tokens=12, **options)
    return [(it.tokens, round(it.score, 3)) for it in result.hypotheses], result.prefix_lengths


@pytest.mark.parametrize("profile", ["full", "own-30"])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_onnxruntime(folder, model, profile, beams):
    plain = SpeechLM.load(folder, profile, threads=1)
    assert answer(model, profile=profile, num_beams=beams) == answer(plain, num_beams=beams)


def test_the_decode_graph_is_there_once_and_runs_on_onnxruntime(folder, model):
    manifest = open_artifact(folder).manifest
    ours, plain = manifest.graphs["openvino"], manifest.graphs["onnxruntime"]
    assert (ours.decode, ours.weights) == (plain.decode, plain.weights)
    assert ours.encoder == "openvino.encoder.onnx"
    assert isinstance(model._loaded.sessions.steps, OnnxRuntimeSession)
    assert model.device == "OpenVINO CPU fp32, steps on ONNX Runtime"


def test_outputs_outlive_the_request_that_made_them(model):
    session = model._loaded.sessions.prefill("full")
    width = model.manifest.decoder.dims.hidden_size
    audio = np.random.default_rng(0).standard_normal((20, width), np.float32)
    ids = {"prefix_ids": np.array([1]), "suffix_ids": np.array([2])}
    feed = {**ids, "audio_embeds": audio, "num_candidates": np.array([2])}
    outputs = session.run(feed)
    views = {name: session.view(value) for name, value in outputs.items()}
    copies = {name: view.copy() for name, view in views.items()}
    del outputs
    gc.collect()
    session.run({**feed, "audio_embeds": -audio})
    for name, view in views.items():
        np.testing.assert_array_equal(view, copies[name])


def test_several_threads_get_the_answers_of_one(model):
    lengths, found = (2.0, 3.0, 4.0), {}
    alone = [answer(model, seconds) for seconds in lengths]

    def work(i):
        found[i] = [answer(model, seconds) for seconds in lengths]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(3), alone)
    submitted = [
        model.submit(noise(s), "hello", max_new_tokens=12, min_new_tokens=12).result() for s in lengths
    ]
    assert [it.hypotheses[0].tokens for it in submitted] == [hypotheses[0][0] for (hypotheses, _) in alone]


def test_a_run_that_is_stopped_says_that_its_request_was_cancelled(model, monkeypatch):
    """The request is cancelled as soon as its prefill runs."""
    from fastadasp.runtime.openvino import session

    own, wait = Cancellation(), session._run

    def run(request, feed):
        request.start_async(dict(feed), share_inputs=True)
        own.cancel()
        request.wait()

    encoded = model.encode(noise(30.0))
    monkeypatch.setattr(session, "_run", run)
    with pytest.raises(RequestCancelled, match="prefill"):
        model.generate(encoded, "hello", max_new_tokens=2, cancellation=own)
    monkeypatch.setattr(session, "_run", wait)
    assert model.generate(encoded, "hello", max_new_tokens=2).hypotheses


def test_a_precision_that_the_cpu_lacks_is_refused_by_name(folder, monkeypatch):
    class Plain:
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8"]

    monkeypatch.setattr(compiled, "core", Plain)
    with pytest.raises(
        RequestError, match=r"precision bf16: this CPU has no products of it .*--precision fp32"
    ):
        SpeechLM.load(folder, backend="openvino")


def test_values_that_are_no_options_are_refused(folder, tiny_checkpoint):
    with pytest.raises(RequestError, match="precision is 'fp16': give bf16 or fp32"):
        OpenVinoOptions(precision="fp16")
    with pytest.raises(RequestError, match="precision: no option of the backend onnxruntime"):
        SpeechLM.load(folder, precision="fp32")
    with pytest.raises(RequestError, match="providers: no option of the backend openvino"):
        SpeechLM.load(folder, backend="openvino", providers=("CPUExecutionProvider",))


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    compiled.library.cache_clear()
    compiled.core.cache_clear()
    with pytest.raises(DependencyError, match=r"fastadasp-export\[openvino\]"):
        SpeechLM.load(folder, backend="openvino")


def test_an_artifact_for_another_target_is_refused(tiny_checkpoint, tmp_path):
    build(tiny_checkpoint, tmp_path / "plain", BuildOptions((load_profile("full"),)))
    with pytest.raises(ArtifactError, match="it has no graphs for openvino, only for onnxruntime"):
        SpeechLM.load(tmp_path / "plain", backend="openvino", precision="fp32")


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_matrices_in_fewer_bits_are_read_where_they_lie(tiny_checkpoint, tmp_path, quantize):
    """Rows keep their numbers there, and are rounded by ONNX Runtime: scores differ by a little."""
    answers = {}
    for target in ("onnxruntime", "openvino"):
        options = BuildOptions((load_profile("full"),), targets=(target,), quantize=quantize)
        build(tiny_checkpoint, tmp_path / target, options)
        fitting = EXACT if target == "openvino" else {"threads": 1}
        answers[target] = SpeechLM.load(tmp_path / target, **fitting).generate(
            noise(3.0), "hello", max_new_tokens=1, min_new_tokens=1
        )
    scores = [found.hypotheses[0].score for found in answers.values()]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)
    assert scores[0] != scores[1]


def test_lean_sessions_give_the_same_answers(folder, model):
    with SpeechLM.load(folder, **EXACT, prepack=False) as lean:
        assert [answer(lean), answer(lean)] == [answer(model)] * 2


def test_openvino_is_imported_in_one_folder_alone():
    code = Path(compiled.__file__).resolve().parents[2]
    folders = (code / name for name in ("profiles", "plugins", "runtime", "evaluation", "export"))
    files = [path for folder in folders for path in folder.rglob("*.py")]
    naming = {
        path.parent.name
        for path in files
        if any(
            line.split()[:2] in (["import", "openvino"], ["from", "openvino"])
            for line in path.read_text("utf-8").splitlines()
        )
    }
    assert naming == {"openvino"}


def test_summed_scores_count_for_the_memory_of_a_request(folder, model):
    """OpenVINO keeps those of all chunks, so a profile that reduces may take more than one that does not."""
    plain = SpeechLM.load(folder, threads=1)
    ours, theirs = (
        {profile: it.request_memory(30.0, profile).prefill for profile in ("full", "own-30")}
        for it in (model, plain)
    )
    assert ours["own-30"] > ours["full"] > theirs["full"] >= theirs["own-30"]
