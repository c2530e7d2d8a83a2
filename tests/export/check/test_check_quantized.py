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
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
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


@pytest.fixture(scope="module", params=["int8", "int4"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "artifact"
    build(DEMO / "model", folder, BuildOptions((load_profile("full"),), quantize=request.param))
    return folder


@pytest.fixture(scope="module")
def int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int4") / "artifact"
    build(DEMO / "model", folder, BuildOptions((load_profile("full"),), quantize="int4"))
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
