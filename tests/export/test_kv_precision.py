"""Keys and values of the prompt in 16 bits: the same answers from half of the bytes, and checked as that."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from demo_files import DEMO
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles import signature as sig
from fastadasp.profiles.errors import RequestError
from fastadasp.profiles.flops import kv_bytes
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact, record_of
from fastadasp.runtime.artifact.manifest import FILE_NAME

pytestmark = pytest.mark.usefixtures("one_thread")
CLIP = DEMO / "clips/dates-01.flac"
H2O = 'method = "h2o"\nschedule = "constant"\nstart_layer = 2\nratio = 0.5\n'
NAMES = ("full", "dense-constant-50", "evicting")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, ...]:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "evicting.toml").write_text(H2O, "utf-8")
    return tuple(load_profile(name, (folder,)) for name in NAMES)


@pytest.fixture(scope="module")
def narrow(profiles: tuple[Profile, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("narrow") / "artifact"
    build(DEMO / "model", folder, BuildOptions(profiles, kv_precision="fp16"))
    return folder


@pytest.fixture(scope="module")
def wide(profiles: tuple[Profile, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "artifact"
    build(DEMO / "model", folder, BuildOptions(profiles))
    return folder


def check(artifact: Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", str(artifact), "--clip", str(CLIP)], env={"COLUMNS": "160"})
    return result.exit_code, result.output


def test_every_graph_agrees(narrow: Path) -> None:
    code, output = check(narrow)
    assert code == 0, output


@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize("profile", NAMES)
def test_answers_are_those_of_float32_from_half_of_the_prefix(
    narrow: Path, wide: Path, profile: str, beams: int
) -> None:
    answers = []
    for folder in (narrow, wide):
        with SpeechLM.load(folder, profile, threads=1) as model:
            answers.append(model.generate(CLIP, prompt="<asr>", num_beams=beams))
            dims = model.manifest.decoder.dims
    half, whole = answers
    assert half.text == whole.text
    assert half.prefix_lengths == whole.prefix_lengths
    assert whole.kv_bytes - half.kv_bytes == kv_bytes(dims, half.prefix_lengths, 2)


def test_graphs_and_manifest_say_what_the_prefix_is_in(narrow: Path) -> None:
    graphs = open_artifact(narrow).manifest.graphs["onnxruntime"]
    assert (graphs.precision, graphs.kv_precision) == ("fp32", "fp16")
    assert graphs.arithmetic == "fp32 with fp16 prompt KV"
    decode = onnx.load(narrow / graphs.decode, load_external_data=False).graph
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in decode.input}
    assert types[sig.prefix_key(0)] == types[sig.prefix_value(3)] == TensorProto.FLOAT16
    assert types[sig.pool_key(0)] == TensorProto.FLOAT


def test_a_coarser_prefix_is_found(narrow: Path, tmp_path: Path) -> None:
    """As bf16 would keep it: eight times the error."""
    folder, name = tmp_path / "coarse", sig.prefix_key(8)
    shutil.copytree(narrow, folder)
    artifact = open_artifact(folder)
    for profile in NAMES:
        path = folder / artifact.manifest.graphs["onnxruntime"].prefill[profile]
        model = onnx.load(path, load_external_data=False)
        place, cast = next((i, node) for i, node in enumerate(model.graph.node) if name in node.output)
        rounded = helper.make_node("Cast", [cast.input[0]], ["coarse"], to=TensorProto.BFLOAT16)
        cast.input[0] = "coarse"
        model.graph.node.insert(place, rounded)
        path.write_bytes(model.SerializeToString())
    files = {each: record_of(folder / each) for each in artifact.manifest.files}
    (folder / FILE_NAME).write_text(replace(artifact.manifest, files=files).to_json(), "utf-8")
    code, output = check(folder)
    assert code == 1
    assert name in output


def test_an_unknown_format_is_refused(profiles: tuple[Profile, ...]) -> None:
    with pytest.raises(RequestError, match="kv_precision 'int8' is unknown; choose fp16"):
        BuildOptions(profiles, kv_precision="int8")
