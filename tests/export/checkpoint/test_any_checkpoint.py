"""Whatever the files of a checkpoint hold: a model is described, or an error of the project says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.export.check.recordings.golden import read_golden
from fastadasp.export.checkpoint.checkpoint import Checkpoint, read_header
from fastadasp.export.model.families.family import load_model
from fastadasp.profiles.errors import CheckpointError
from fuzzing import BAD, answered, changed, fuzz, mutants, opened_files, places, set_to, write_json
from golden_folder import SETTINGS, write_golden

JSON_FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json")
DEEP = ("[" * 10**6, '{"a":' * 500 + "1" + "}" * 500, '{"a": ' + "7" * 10**6 + "}")
FAMILIES = ("qwen2_audio", "qwen")


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small checkpoint of each family."""
    folder = tmp_path_factory.mktemp("any")
    write_golden(folder / "qwen", SETTINGS[:2])
    shutil.copytree(tiny_checkpoint, folder / "qwen2_audio")
    return {family: folder / family for family in FAMILIES}


@contextmanager
def instead(path: Path, text: str) -> Iterator[None]:
    """Another content of a file, for a while."""
    before = path.read_bytes()
    path.write_text(text, "utf-8")
    try:
        yield
    finally:
        path.write_bytes(before)


def load(folder: Path) -> object:
    """The description of a model or why there is none; nothing outside of its folder is opened."""
    with opened_files() as opened:
        found = answered(lambda: load_model(Checkpoint(folder)))
    assert not isinstance(found, Exception) or isinstance(found, CheckpointError)
    outside = [path for path in opened if Path(path).suffix in (".json", ".safetensors", ".tiktoken")]
    assert all(Path(path).resolve().is_relative_to(folder.resolve()) for path in outside)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_both_are_read_as_they_are(checkpoints: dict[str, Path], family: str) -> None:
    assert not isinstance(load(checkpoints[family]), Exception)


@pytest.mark.parametrize("text", DEEP, ids=["deep", "deep but read by Python", "digits"])
@pytest.mark.parametrize("family", FAMILIES)
def test_files_that_python_reads_badly_are_refused(
    checkpoints: dict[str, Path], family: str, text: str
) -> None:
    for path in sorted(checkpoints[family].glob("*.json")):
        if path.name not in ("golden.json", "special_tokens_map.json"):
            with instead(path, text):
                found = load(checkpoints[family])
            assert isinstance(found, CheckpointError) or path.name == "tokenizer.json"
            assert "copy it again" in str(found) or path.name == "tokenizer.json"


@pytest.mark.fuzz
@pytest.mark.parametrize("family", FAMILIES)
@fuzz(60)
@given(data=st.data())
def test_any_settings(checkpoints: dict[str, Path], family: str, data: st.DataObject) -> None:
    present = [name for name in JSON_FILES if (checkpoints[family] / name).is_file()]
    path = checkpoints[family] / data.draw(st.sampled_from(present))
    with instead(path, json.dumps(data.draw(mutants(json.loads(path.read_text("utf-8")))))):
        load(checkpoints[family])


@pytest.mark.fuzz
@fuzz(60)
@given(content=mutants({"metadata": {}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
def test_any_index_of_shards(checkpoints: dict[str, Path], tmp_path: Path, content: Any) -> None:
    shutil.copy(checkpoints["qwen2_audio"] / "config.json", tmp_path)
    write_json(tmp_path / "model.safetensors.index.json", content)
    assert isinstance(load(tmp_path), CheckpointError)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "", ".", "..", "a\0b", "a" * 300])
def test_a_shard_with_the_name_of_no_file_of_the_folder(
    checkpoints: dict[str, Path], tmp_path: Path, name: str
) -> None:
    shutil.copy(checkpoints["qwen2_audio"] / "config.json", tmp_path)
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": name}})
    assert isinstance(load(tmp_path), CheckpointError)


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def header_of(folder: Path, text: str) -> object:
    """What is read of a weight file with this header."""
    content = text.encode("utf-8", "surrogatepass")
    path = folder / "x.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(32))
    found = answered(lambda: read_header(path))
    assert isinstance(found, dict | CheckpointError)
    return found


@pytest.mark.fuzz
@fuzz(100)
@given(content=mutants(HEADER))
def test_any_header_of_weights(tmp_path: Path, content: Any) -> None:
    header_of(tmp_path, json.dumps(content))


@pytest.mark.parametrize("value", ["[" * 10**5, "[" * 120 + "]" * 120, "7" * 5000, "1e9999", '"\\ud800"'])
def test_what_only_python_reads_badly_in_a_header(tmp_path: Path, value: str) -> None:
    text = json.dumps(HEADER).replace('"dtype": "F32"', f'"dtype": "F32", "more": {value}')
    header_of(tmp_path, text)
    header_of(tmp_path, text[:-2])


def golden(folder: Path) -> object:
    found = answered(lambda: read_golden(folder))
    assert not isinstance(found, Exception) or isinstance(found, CheckpointError)
    return found


@pytest.mark.fuzz
@fuzz(60)
@given(data=st.data())
def test_any_recorded_settings(checkpoints: dict[str, Path], data: st.DataObject) -> None:
    path = checkpoints["qwen"] / "golden.json"
    with instead(path, json.dumps(data.draw(mutants(json.loads(path.read_text("utf-8")))))):
        golden(checkpoints["qwen"])


def test_each_recorded_field_with_values_that_it_cannot_have(checkpoints: dict[str, Path]) -> None:
    path = checkpoints["qwen"] / "golden.json"
    content = json.loads(path.read_text("utf-8"))
    for place in places(content, most=2):
        for value in BAD[::2]:
            with instead(path, json.dumps(changed(content, place, set_to(value)))):
                golden(checkpoints["qwen"])
    for text in DEEP:
        with instead(path, text):
            assert "golden.json" in str(golden(checkpoints["qwen"]))
