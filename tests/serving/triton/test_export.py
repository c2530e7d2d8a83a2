"""A model repository is what Triton can read, holds all that it needs, and replaces nothing but ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig  # type: ignore[import-untyped]

from fastadasp.export.cli import main
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.serving.triton.config import TritonModel


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def export(tiny_artifact: Path, repository: Path) -> Any:
    def export(*options: str, artifact: Path = tiny_artifact) -> Result:
        return CliRunner().invoke(main, ["export-triton", str(artifact), "-o", str(repository), *options])

    return export


def written(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


def config(repository: Path, name: str) -> Any:
    return text_format.Parse((repository / name / "config.pbtxt").read_text("utf-8"), ModelConfig())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_description_is_what_triton_takes(export: Any, repository: Path) -> None:
    output = written(
        export("--name", "speech", "--profile", "own-30", "--instances", "3", "--max-batch", "4")
    )
    assert f"tritonserver --model-repository {repository}" in output
    found = config(repository, "speech")
    assert (found.name, found.backend, found.max_batch_size) == ("speech", "python", 0)
    assert found.model_transaction_policy.decoupled
    assert found.instance_group[0].count == 3
    assert [each.name for each in found.input if not each.optional] == []
    assert [each.name for each in found.output] == ["TEXT", "FINISH_REASON"]
    assert found.parameters["profile"].string_value == "own-30"
    assert json.loads(found.parameters["options"].string_value) == {
        "backend": "onnxruntime",
        "max_batch": 4,
        "max_queue": 64,
        "threads": 1,
    }


def test_the_check_finds_a_field_that_triton_does_not_know() -> None:
    with pytest.raises(text_format.ParseError, match='no field named "bakend"'):
        text_format.Parse('name: "x" bakend: "python"', ModelConfig())


@pytest.mark.parametrize("text", ['say "hello"', "it's", "a\\b", "both ' and \"", "zwölf\n☎"])
def test_any_text_comes_through_the_description(text: str) -> None:
    model = TritonModel("m", text, (text, "full"), {"device": text})
    found = text_format.Parse(model.config(), ModelConfig())
    assert found.parameters["profile"].string_value == text
    assert json.loads(found.parameters["options"].string_value) == {"device": text}


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_model_holds_its_artifact_and_nothing_else(
    export: Any, repository: Path, tiny_artifact: Path, mode: str
) -> None:
    written(export("--files", mode))
    model = repository / tiny_artifact.name
    artifact = files(tiny_artifact)
    assert files(model) == sorted(
        ["1/model.py", "config.pbtxt", *(f"1/artifact/{name}" for name in artifact)]
    )
    assert open_artifact(model / "1" / "artifact", verify="always").manifest.profiles
    same = {(tiny_artifact / name).samefile(model / "1" / "artifact" / name) for name in artifact}
    assert same == {mode == "link"}
    assert not [path for path in model.rglob("*") if path.is_symlink()]
    assert not [path.name for path in repository.iterdir() if path != model]


def test_a_model_is_replaced_only_where_that_is_asked_for(export: Any, repository: Path) -> None:
    written(export("--name", "speech"))
    assert "exists; give another folder, or --force" in refusal(export("--name", "speech"))
    left = repository / "speech" / "1" / "__pycache__" / "model.cpython-311.pyc"
    left.parent.mkdir()
    left.touch()  # as a server leaves it
    written(export("--name", "speech", "--instances", "2", "--force"))
    assert config(repository, "speech").instance_group[0].count == 2
    written(export("--name", "other"))
    assert sorted(path.name for path in repository.iterdir()) == ["other", "speech"]


def test_what_is_no_model_of_ours_is_not_replaced(export: Any, repository: Path, tiny_artifact: Path) -> None:
    shutil.copytree(tiny_artifact, repository / "artifact")
    (repository / "theirs" / "1").mkdir(parents=True)
    for name in ("artifact", "theirs"):
        assert "is not a Triton model" in refusal(export("--name", name, "--force"))
    written(export("--name", "speech"))
    (repository / "speech" / "2").mkdir()
    assert "holds what is no part of the Triton model: 2/" in refusal(export("--name", "speech", "--force"))


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "a b", ".."])
def test_a_name_is_that_of_one_folder(export: Any, repository: Path, name: str) -> None:
    assert "a model is a folder" in refusal(export("--name", name))
    assert not repository.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--profile", "none"), "profile none is not in"),
        (("--instances", "0"), "instances is 0: give 1 to 64"),
        (("--backend", "onnxruntime-cuda"), "no graphs for onnxruntime-cuda"),
        (("--backend", "tensorrt", "--threads", "2"), "no option of the backend tensorrt"),
        (("--max-batch", "0"), "--max-batch is 0: give a whole number of at least 1"),
    ],
)
def test_what_the_artifact_cannot_do_is_refused(
    export: Any, repository: Path, options: tuple[str, ...], reason: str
) -> None:
    assert reason in refusal(export(*options))
    assert not repository.exists()


def test_a_damaged_artifact_is_refused(
    export: Any, repository: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_artifact, damaged)
    with (damaged / "decode.onnx").open("r+b") as stream:
        stream.write(b"\0")
    assert "decode.onnx" in refusal(export(artifact=damaged))
    assert not repository.exists()
