"""The command `families`: its list, its page, and what it finds wrong with a folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from fastadasp.export.cli import main
from fastadasp.export.model.facts import TITLES, as_markdown, values_of
from fastadasp.export.model.families.family import FAMILIES, known_families
from shared_files import REAL_FILES

PAGE = Path(__file__).parents[3] / "docs" / "families.md"


def families(*args):
    result = CliRunner().invoke(main, ["families", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def faults(folder):
    """Those that are found in a folder which cannot be built."""
    exit_code, said = families(folder)
    found = [line.removeprefix("fault: ") for line in said.splitlines() if line.startswith("fault: ")]
    assert exit_code == 1, said
    assert said.splitlines()[-1] == f"cannot be built: {len(found)} fault{'s' * (len(found) > 1)}"
    return found


@pytest.fixture
def own(tiny_checkpoint, tmp_path):
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def edit(folder, **settings):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **settings}), "utf-8")


def test_the_list_says_all_there_is_of_every_family():
    exit_code, said = families()
    assert exit_code == 0
    assert list(known_families()) == list(FAMILIES)
    for model_type, facts in known_families().items():
        assert facts.name in said.splitlines()
        assert any(line.split()[:2] == ["model_type", model_type] for line in said.splitlines())
        for text in values_of(facts):
            assert "".join(text.replace("`", "").split()) in "".join(said.split())
    assert all(title in said for title in TITLES.values())


def test_the_page_has_the_table_that_the_command_prints():
    table = families("--markdown")[1].strip()
    assert table == as_markdown(known_families())
    assert table in PAGE.read_text("utf-8"), "put what `families --markdown` prints into docs/families.md"
    assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1


def test_a_sound_folder_is_described(tiny_checkpoint, own):
    exit_code, said = families(tiny_checkpoint)
    assert exit_code == 0
    for text in ("Qwen2-Audio", "4 layers, hidden 64, FFN 128", "1024 positions", "F32, ", "linked"):
        assert text in said
    assert "fault" not in said
    assert f"can be built: fastadasp-export build {tiny_checkpoint} -o ART" in said
    assert re.search(r"^tested with +tiny random weights", said, re.MULTILINE)
    edit(own, brand_new=7)
    exit_code, said = families(own)
    assert exit_code == 0
    assert "note: " in said
    assert said.count("brand_new 7") == 1


def test_every_faulty_tensor_is_named_at_once(own):
    weights = load_file(own / "model.safetensors")
    first, second, third = (name for name in weights if "layers.0.mlp" in name)
    del weights[first]
    weights[second] = weights[second][1:].copy()
    weights[third] = weights[third].astype("float64")
    save_file(weights, own / "model.safetensors")
    found = faults(own)
    assert len(found) == 3
    stem = ".mlp."
    for name, text in ((first, "is missing"), (second, "has shape"), (third, "is F64; supported are")):
        (line,) = [line for line in found if name.split(stem)[1] in line]
        assert text in line


def test_missing_weights_hide_no_fault_of_the_settings(own):
    (own / "model.safetensors").unlink()
    (weights,) = faults(own)
    assert "neither model.safetensors nor model.safetensors.index.json is there" in weights
    assert "4 layers, hidden 64" in families(own)[1]
    config = json.loads((own / "config.json").read_text("utf-8"))
    edit(own, text_config={**config["text_config"], "hidden_act": "relu", "rms_norm_eps": -1})
    found = faults(own)
    assert len(found) == 2
    assert all(text in found[1] for text in ("hidden_act 'relu' is not supported", "rms_norm_eps is -1"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json is missing"),
        ("{", "is no JSON"),
        ('{"model_type": "parrot"}', "model_type 'parrot' is not supported; known: "),
        ("{}", "model_type None is not supported; known: "),
    ],
)
def test_a_folder_of_no_family_is_told_what_there_is(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content, "utf-8")
    (fault,) = faults(tmp_path)
    assert message in fault
    assert "none that is known" in families(tmp_path)[1]
    if "known: " in message:
        assert all(f"{kind} ({it.name})" in fault for kind, it in known_families().items())


def test_a_folder_that_is_not_there_cannot_be_built(tmp_path):
    (fault,) = faults(tmp_path / "nowhere")
    assert "no such folder" in fault


def test_what_a_training_has_left_is_converted_first(tmp_path):
    file = tmp_path / "final.pt"
    file.write_bytes(b"PK")
    for place in (tmp_path, file):
        (fault,) = faults(place)
        assert f"converted first: fastadasp-export convert {file} -o DIR --tokenizer" in fault


def test_the_table_of_a_page_takes_no_folder(tmp_path):
    assert families(tmp_path, "--markdown")[0] == 2


REAL_MODELS = {
    "qwen_audio": (
        *("32 layers, hidden 4096, FFN 11008", "155947, end tokens 151643", "327.6 s (8192 positions)"),
        *("dynamic NTK and log-n beyond 2048 rows", "80 mel bins", "{audio}{prompt}"),
    ),
    "qwen2_audio": ("32 layers, hidden 4096, FFN 11008", "156032, end tokens 151645", "128 mel bins"),
}


@pytest.mark.skipif(not REAL_FILES.is_dir(), reason="the real settings do not lie there")
@pytest.mark.parametrize("name", REAL_MODELS)
def test_the_real_settings_lack_nothing_but_weights(name):
    (fault,) = faults(REAL_FILES / name)
    assert "neither model.safetensors" in fault
    said = families(REAL_FILES / name)[1]
    assert [text for text in REAL_MODELS[name] if text not in said] == []
