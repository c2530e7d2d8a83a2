"""`check` on quantised artifacts of the demo: they agree, and what is wrong with their matrices is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from demo_files import DEMO
from fastadasp.evaluation.clips.read import read_clips_of_any_task
from fastadasp.export.check.matrices import ROUNDING, SLACK, check_matrices
from fastadasp.export.check.reference import load_for
from fastadasp.export.checkpoint.int4 import MOST_MOVED
from fastadasp.export.cli import main
from fastadasp.export.model import quantize
from fastadasp.export.model.quantize import ENCODER, ENCODER_LAYERS, of_graphs
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import CheckpointError
from fastadasp.runtime.artifact.artifact import Artifact, open_artifact, record_of
from fastadasp.runtime.artifact.manifest import FILE_NAME

pytestmark = pytest.mark.usefixtures("one_thread")
CLIP = DEMO / "clips/dates-01.flac"
MATRIX = "language_model.model.layers.3.mlp.up_proj.weight"
NODE = "/layers.3/mlp/up_proj/MatMulNBits"


def check(*arguments: object) -> tuple[int, list[str]]:
    result = CliRunner().invoke(
        main, ["check", *map(str, arguments), "--clip", str(CLIP)], env={"COLUMNS": "160"}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output.splitlines()


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo(tmp_path_factory, quantize="int8")


@pytest.fixture(scope="module")
def int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo(tmp_path_factory, quantize="int4")


@pytest.fixture(scope="module")
def large_blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 64 numbers where 128 do not divide a matrix."""
    return build_demo(tmp_path_factory, quantize="int4", int4_block=128)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = read_clips_of_any_task(DEMO / "clips/transcripts.jsonl")[:3]
    return build_demo(tmp_path_factory, quantize="int4", calibration=clips)


def build_demo(folders: pytest.TempPathFactory, **options: Any) -> Path:
    folder = folders.mktemp("built") / "artifact"
    build(DEMO / "model", folder, BuildOptions((load_profile("full"),), **options))
    return folder


@pytest.fixture(params=["int8", "int4", "large_blocks", "calibrated"])
def built(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def with_file(source: Path, folder: Path, name: str, change: Callable[[Path, Artifact], object]) -> Path:
    """A copy of an artifact with one file changed and described anew, as if a build had written it so."""
    shutil.copytree(source, folder)
    artifact = open_artifact(folder)
    change(folder / name, artifact)
    files = {**artifact.manifest.files, name: record_of(folder / name)}
    (folder / FILE_NAME).write_text(replace(artifact.manifest, files=files).to_json(), "utf-8")
    return folder


def part(name: str, change: Callable[[Any], Any]) -> Callable[[Path, Artifact], None]:
    """Changes one part of `MATRIX` in its file."""

    def write(path: Path, artifact: Artifact) -> None:
        place = artifact.manifest.weights["fp32"].decoder[f"{MATRIX}.int4.32.{name}"]
        kind = np.float32 if place.precision == "fp32" else np.uint8
        file = np.memmap(path, np.uint8, "r+")
        end = place.offset + int(np.prod(place.shape)) * np.dtype(kind).itemsize
        view = file[place.offset : end].view(kind).reshape(place.shape)
        view[:] = change(view.copy())
        file.flush()

    return write


def test_every_output_and_every_matrix_agrees(built: Path) -> None:
    code, lines = check(built, "--checkpoint", DEMO / "model")
    assert code == 0, lines
    assert any(line.startswith("quantised matrices against the checkpoint") for line in lines)
    assert lines[-1].split(" of ")[0] == lines[-1].split(" of ")[1].split()[0]


def test_matrices_in_a_form_of_another_version_are_refused_with_the_remedy(
    int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = of_graphs({})
    monkeypatch.setattr(quantize, "of_graphs", lambda *_: {**forms, ENCODER_LAYERS: forms[ENCODER]})
    with pytest.raises(
        CheckpointError, match=r"fc1\.weight\.int8\.scales is not made of it; .*build it again"
    ):
        load_for(open_artifact(int8), DEMO / "model")


def test_without_a_checkpoint_only_graphs_are_compared(built: Path) -> None:
    code, lines = check(built)
    assert code == 0, lines
    assert not any("quantised matrices" in line for line in lines)


WRONG = {
    "swapped nibbles": ("uint8", "values", lambda values: values >> 4 | values << 4),
    "one wrong scale": (
        "fp32",
        "scales",
        lambda scales: scales * np.where(np.arange(scales.size) == 5, 2, 1).reshape(scales.shape),
    ),
    "no zero points": ("uint8", "zero_points", lambda zeros: zeros * 0 + 0x88),
    "a transposed block": ("uint8", "values", lambda values: values[:, ::-1]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_matrix_that_was_quantised_wrong_is_named(fault: str, int4: Path, tmp_path: Path) -> None:
    file, name, change = WRONG[fault]
    folder = with_file(int4, tmp_path / "wrong", f"weights/{file}.safetensors", part(name, change))
    code, lines = check(folder, "--checkpoint", DEMO / "model")
    assert code == 1
    (found,) = [line for line in lines if line.endswith(" FAIL") and line.split()[1:2] == ["of"]]
    assert MATRIX in found


@pytest.mark.parametrize("fault", WRONG)
def test_a_calibrated_matrix_that_was_stored_wrong_is_named(
    fault: str, calibrated: Path, tmp_path: Path
) -> None:
    file, name, change = WRONG[fault]
    folder = with_file(calibrated, tmp_path / "wrong", f"weights/{file}.safetensors", part(name, change))
    assert not [it.name for it in check_matrices(open_artifact(calibrated), DEMO / "model") if not it.passed]
    found = check_matrices(open_artifact(folder), DEMO / "model")
    assert [it.name for it in found if not it.passed] == [MATRIX]


def test_rounding_is_allowed_no_more_than_half_a_step(int4: Path, calibrated: Path) -> None:
    """What calibration moved farther does not widen what is allowed to others."""
    plain, moved = (check_matrices(open_artifact(it), DEMO / "model") for it in (int4, calibrated))
    assert {it.bound for it in plain} == {SLACK * ROUNDING}
    assert max(it.bound for it in moved) <= SLACK * MOST_MOVED
    sensitive = [it for it in moved if it.form == "int8"]
    assert len(sensitive) > sum(it.form == "int8" for it in plain)  # more than the head
    assert all(it.error <= ROUNDING * SLACK for it in sensitive)


def test_a_matrix_may_not_say_that_it_moved_as_far_as_it_likes(calibrated: Path, tmp_path: Path) -> None:
    def far(path: Path, artifact: Artifact) -> None:
        part("moved", lambda _: np.float32(100))(path, artifact)
        part("scales", lambda scales: scales * 2)(path, artifact)

    folder = with_file(calibrated, tmp_path / "wrong", "weights/fp32.safetensors", far)
    found = check_matrices(open_artifact(folder), DEMO / "model")
    assert [it.name for it in found if not it.passed] == [MATRIX]


def test_a_graph_that_reads_another_matrix_is_found(int4: Path, tmp_path: Path) -> None:
    """Outputs show gross faults alone: rounding of the activations hides a small one (see the products)."""

    def with_values_of_the_next_layer(path: Path, _: Artifact) -> None:
        model = onnx.load(path, load_external_data=False)
        (node,) = (node for node in model.graph.node if node.name == NODE)
        node.input[1] = node.input[1].replace("layers.3", "layers.4")
        path.write_bytes(model.SerializeToString())

    folder = with_file(int4, tmp_path / "wrong", "decode.onnx", with_values_of_the_next_layer)
    code, lines = check(folder)
    assert code == 1, lines
    assert any(line.startswith("decode") and line.endswith(" FAIL") for line in lines)
    assert any("first differs in layer 3" in line for line in lines), lines
