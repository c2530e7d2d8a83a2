"""One artifact for several targets: each backend runs its own graphs, and what is equal stands there once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction

import pytest
from click.testing import CliRunner

from conftest import OWN_PROFILE, TINY_PROFILES
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.checkpoint.precision import FP16
from fastadasp.export.cli import main
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.export.targets import TARGETS, Target
from fastadasp.profiles import Profile, ProfileError, load_profile
from fastadasp.profiles.errors import ArtifactError
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact, record_of
from fastadasp.runtime.artifact.manifest import FILE_NAME, parse_manifest
from fastadasp.runtime.artifact.weights import check_precision
from fastadasp.runtime.backends import BACKENDS

BOTH = "onnxruntime", "plain"


class PlainLowering(OnnxRuntimeLowering):
    """Differs in the prefill alone: there the MLP is written out."""

    name = "plain"
    takes_data_dependent_lengths = False

    def gated_mlp(self, g, name, x, gate, up, down):
        gated, wide = (g.op("Gemm", x, weight, name=f"{name}/{weight}", transB=1) for weight in (gate, up))
        gated = g.op("Mul", gated, g.op("Sigmoid", gated, name=name), name=name)
        return g.op("Gemm", g.op("Mul", gated, wide), down, name=f"{name}/down_proj", transB=1)


class HalfLowering(OnnxRuntimeLowering):
    name, precision = "half", FP16


@pytest.fixture(scope="module", autouse=True)
def second_target():
    """What it takes: a lowering, sessions (here those of ONNX Runtime), a row on both sides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "plain", Target(lambda *_: PlainLowering()))
        patch.setitem(TARGETS, "half", Target(lambda *_: HalfLowering(), ("fp16",)))
        patch.setitem(BACKENDS, "plain", replace(BACKENDS["onnxruntime"], target="plain"))
        yield


@pytest.fixture(scope="module")
def artifact(tiny_checkpoint, tmp_path_factory):
    """The tiny model for both targets."""
    folder = tmp_path_factory.mktemp("targets") / "artifact"
    own = tmp_path_factory.mktemp("profiles")
    (own / "own-30.toml").write_text(OWN_PROFILE, "utf-8")
    profiles = tuple(load_profile(name, (own,)) for name in TINY_PROFILES)
    build(tiny_checkpoint, folder, BuildOptions(profiles, weights="copy", targets=BOTH))
    return folder


def test_every_target_has_a_backend_that_runs_it():
    assert set(TARGETS) - {"half"} <= {backend.target for backend in BACKENDS.values()}


def test_files_that_differ_are_there_for_each_target_and_others_once(artifact, tiny_artifact):
    manifest = open_artifact(artifact).manifest
    first, second = (manifest.graphs[target] for target in BOTH)
    assert (second.encoder, second.decode) == (first.encoder, first.decode) == ("encoder.onnx", "decode.onnx")
    assert first.prefill == {name: f"prefill.{name}.onnx" for name in TINY_PROFILES}
    assert second.prefill == {name: f"plain.prefill.{name}.onnx" for name in TINY_PROFILES}
    written = {path.name for path in artifact.glob("*.onnx")}
    assert written == {*first.files, *second.files} == {name for name in manifest.files if "onnx" in name}
    for name in (*first.files, "weights/model.safetensors"):
        assert (artifact / name).read_bytes() == (tiny_artifact / name).read_bytes()


def test_the_weights_are_shared(artifact):
    manifest = open_artifact(artifact).manifest
    assert list(manifest.weights) == ["fp32"]
    assert {graphs.weights for graphs in manifest.graphs.values()} == {"fp32"}
    assert [name for name in manifest.files if name.startswith("weights/")] == ["weights/model.safetensors"]


def test_a_manifest_of_several_targets_is_read_as_it_was_written(artifact):
    manifest = open_artifact(artifact).manifest
    assert parse_manifest(manifest.to_json(), "here") == manifest
    assert list(manifest.graphs) == list(BOTH)


@pytest.mark.parametrize("profile", TINY_PROFILES)
def test_each_backend_runs_its_own_graphs(artifact, clip, profile):
    models = [SpeechLM.load(artifact, profile, backend=name, threads=1) for name in BOTH]
    first, second = (model.generate(clip, "hello", num_beams=3, max_new_tokens=8) for model in models)
    assert [it.tokens for it in first.hypotheses] == [it.tokens for it in second.hypotheses]
    assert first.prefix_lengths == second.prefix_lengths
    paths = [model._loaded.sessions.prefill(profile)._path.name for model in models]
    assert paths == [f"prefill.{profile}.onnx", f"plain.prefill.{profile}.onnx"]


def test_each_backend_is_checked_by_its_own_graphs(artifact, tmp_path):
    assert all(verdict.finding.passed for verdict in verdicts(artifact))
    folder = shutil.copytree(artifact, tmp_path / "artifact")
    shutil.copy(folder / "prefill.full.onnx", folder / "plain.prefill.own-30.onnx")
    manifest = open_artifact(artifact).manifest
    files = {name: record_of(folder / name) for name in manifest.files}
    (folder / FILE_NAME).write_text(replace(manifest, files=files).to_json(), "utf-8")
    failed = [verdict for verdict in verdicts(folder) if not verdict.finding.passed]
    assert {(verdict.backend, str(verdict.graph)) for verdict in failed} == {("plain", "prefill.own-30")}
    where = next(verdict.where for verdict in failed if verdict.where)
    assert where.startswith("first differs in layer 2, rotated keys: shape")  # only outputs can be read
    assert where.endswith("everything up to layer 1, cached values agrees")


def verdicts(folder):
    return check_artifact(open_artifact(folder), CheckOptions(backends=BOTH))


def test_an_artifact_that_lacks_a_target_is_refused_with_the_remedy(tiny_artifact):
    remedy = "build it with --target plain, or use another backend"
    wanted = f"it has no graphs for plain, only for onnxruntime; {remedy}"
    with pytest.raises(ArtifactError, match=wanted):
        SpeechLM.load(tiny_artifact, backend="plain")


def test_inspect_names_the_targets(artifact, tiny_artifact):
    shown = [
        CliRunner().invoke(main, ["inspect", str(folder)]).stdout for folder in (artifact, tiny_artifact)
    ]
    several, one = (" ".join(text.split()) for text in shown)
    assert "3 prefills, one per profile targets onnxruntime, plain weights copied" in several
    assert "3 prefills, one per profile targets onnxruntime weights copied" in one


A_TOME = Profile("mine", "a_tome", "single", 1, ratio=Fraction(1, 4))
SA_MAP = Profile("mine", "sa_map", "input", ratio=Fraction(1, 4))
ENGINES = EngineOptions(max_audio_seconds=8, max_text_rows=32, max_new_tokens=32)


@pytest.mark.parametrize(
    ("profile", "asked", "reason"),
    [
        (A_TOME, {"targets": BOTH}, "and plain must know every length"),
        (SA_MAP, {"targets": ("onnxruntime", "openvino")}, "and openvino is not good at repeating nodes"),
        (SA_MAP, {"engines": ENGINES}, "and tensorrt is not good at repeating nodes"),
    ],
    ids=["another", "openvino", "engines"],
)
def test_a_method_that_one_target_lacks_is_refused_before_anything_is_done(
    tiny_checkpoint, tmp_path, profile, asked, reason
):
    stages = []
    with pytest.raises(ProfileError, match=rf"mine \({profile.method}\): .* {reason}"):
        build(tiny_checkpoint, tmp_path / "artifact", BuildOptions((profile,), **asked), stages.append)
    assert stages == ["read checkpoint"]
    assert not any(tmp_path.iterdir())


def test_targets_of_other_numbers_have_weights_of_their_own(tiny_checkpoint, tmp_path):
    options = BuildOptions((load_profile("full"),), weights="copy", targets=("onnxruntime", "half"))
    build(tiny_checkpoint, tmp_path / "artifact", options)
    opened = open_artifact(tmp_path / "artifact")
    assert {target: graphs.precision for target, graphs in opened.manifest.graphs.items()} == {
        "onnxruntime": "fp32",
        "half": "fp16",
    }
    assert not set(opened.graphs("half").files) & set(opened.graphs("onnxruntime").files)
    whole, half = (opened.weights(opened.graphs(target)) for target in ("onnxruntime", "half"))
    assert {place.file for place in half.decoder.values()} == {"weights/fp16.safetensors"}
    assert {place.file for place in whole.decoder.values()} == {"weights/model.safetensors"}
    assert opened.manifest.weight_origins == ("copied", "converted")
    assert opened.identity()["precision"] == "fp32, fp16"
    with pytest.raises(ArtifactError, match=r"half\.encoder\.onnx is fp16; .* maps weights of fp32 alone"):
        check_precision(opened, opened.graphs("half"))
