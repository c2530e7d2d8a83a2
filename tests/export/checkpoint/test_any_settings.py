"""Any value in any setting of a checkpoint: used, named, known to be irrelevant, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import WhisperFeatureExtractor

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families import qwen2_audio
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.families.parts import decoder, feature_extractor
from fastadasp.export.model.families.parts.settings import SAMPLING, SEARCH_IRRELEVANT
from fastadasp.profiles.errors import CheckpointError

FILES = ("config.json", "generation_config.json", "processor_config.json")
CHANGED = ("x", 1.5)  # that no setting has
NONSENSE = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 10**9, 2**63, 10**400, -1e308, float("nan"), float("inf")),
    *(
        "",
        "10000",
        "\ud800",
        "<|AUDIO|>",
        [],
        [1],
        [None],
        [[1]],
        {},
        {"a": 1},
        {"content": 1},
        {"type": [1]},
    ),
)
IRRELEVANT = {
    *(*SEARCH_IRRELEVANT, *SAMPLING),
    *(*qwen2_audio.WHOLE_IRRELEVANT, *decoder.IRRELEVANT, *qwen2_audio.AUDIO_IRRELEVANT),
    *(*feature_extractor.EXTRACTOR_IRRELEVANT, *qwen2_audio.PROCESSOR_IRRELEVANT),
    "tie_word_embeddings",  # where a head is stored
}


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a front end as transformers 5 saves it."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("any") / "checkpoint"))
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=2).to_dict()
    extractor.pop("mel_filters", None)
    tokens = {f"{name}_token": f"<|{name}|>" for name in ("audio_bos", "audio_eos")}
    content = {"feature_extractor": extractor, "audio_token": "<|AUDIO|>", **tokens}
    (folder / "processor_config.json").write_text(json.dumps(content))
    return folder


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every setting of a file, in objects and lists."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in inner:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def changed(text: str, place: tuple[Any, ...], value: object) -> str:
    content = inner = json.loads(text)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return json.dumps(content)


def settings_of(
    folder: Path, name: str, values: tuple[object, ...]
) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Each setting of a file with each of the values, while the file holds it."""
    path = folder / name
    text = path.read_text()
    try:
        for place in places(json.loads(text)):
            for value in values:
                path.write_text(changed(text, place, value))
                yield place, value
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", FILES)
def test_nonsense_is_refused_in_a_line_that_names_the_file(whole: Path, name: str) -> None:
    refused = 0
    for place, value in settings_of(whole, name, NONSENSE):
        try:
            load_model(Checkpoint(whole))
        except CheckpointError as error:
            refused += 1
            line = str(error)
            named = name in line or str(place[-1]) in line
            if not named or len(line) > 1000 or "\n" in line:
                pytest.fail(f"{place} {value!r:.50}: {line}")
    assert refused


@pytest.mark.parametrize("name", FILES)
def test_no_setting_is_lost_in_silence(whole: Path, name: str) -> None:
    before = load_model(Checkpoint(whole))
    assert before.notes == ()
    lost = set()
    for place, _ in settings_of(whole, name, CHANGED):
        try:
            after = load_model(Checkpoint(whole))
        except CheckpointError:
            continue
        if after == before:
            lost |= {key for key in place if isinstance(key, str)} & {place[-1], place[0]}
    top = {"text_config", "audio_config", "feature_extractor"}
    assert lost - top <= IRRELEVANT


def test_a_token_that_is_no_text_is_refused(whole: Path) -> None:
    path = whole / "tokenizer_config.json"
    text = path.read_text()
    try:
        for value in ("\ud800", {"content": 1}, [1]):
            path.write_text(json.dumps(json.loads(text) | {"bos_token": value}))
            with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: .* is no token's text"):
                load_model(Checkpoint(whole))
    finally:
        path.write_text(text)
