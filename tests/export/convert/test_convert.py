"""A training checkpoint becomes a folder that a build reads, and no code in it is run."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.cli import main
from fastadasp.export.convert.convert import convert
from fastadasp.export.convert.shards import write_shards
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile
from fastadasp.profiles.errors import CheckpointError, OutputError
from fastadasp.runtime import SpeechLM
from torch_wavllm import CONFIG, TorchWavLLM
from training_files import save, write_sentencepiece

TOLD = (
    "whisper_config",
    "wavlm_config",
    "subsample",
    "adapter",
    "projector",
    "lora_config",
    "prompt_adapter",
)
"""Sections of the config whose numbers the tensors tell, but for the following."""
NOT_TOLD = {
    "text_config": {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16},
    "whisper_config": {"encoder_attention_heads": CONFIG["whisper_config"]["encoder_attention_heads"]},
    "wavlm_config": {"max_bucket_distance": CONFIG["wavlm_config"]["max_bucket_distance"]},
}
SETTINGS: dict[str, Any] = {
    "dict": {"task": {"_name": "speechllm_task", "lr": [1e-4]}, "seed": 1},
    "Namespace": argparse.Namespace(arch="wavllm", lr=[1e-4]),
}


@pytest.fixture(scope="module")
def model() -> TorchWavLLM:
    return TorchWavLLM(seed=2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sentencepiece") / "tokenizer.model"
    write_sentencepiece(file)
    return file


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(NOT_TOLD), "utf-8")
    return path


@pytest.mark.parametrize("kind", SETTINGS)
def test_weights_and_sizes_are_those_of_the_training(
    model: TorchWavLLM, tokenizer: Path, settings: Path, tmp_path: Path, kind: str
) -> None:
    source, output = save(tmp_path / "final.pt", model, cfg=SETTINGS[kind]), tmp_path / "checkpoint"
    arguments = [str(source), "-o", str(output), "--tokenizer", str(tokenizer), "--config", str(settings)]
    result = CliRunner().invoke(main, ["convert", *arguments])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        f"{output}: written; build it with fastadasp-export build {output} -o ART"
    )
    found = {name: each for file in output.glob("*.safetensors") for name, each in load_file(file).items()}
    expected = model.tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    config = json.loads((output / "config.json").read_text("utf-8"))
    for section in TOLD:
        for key, value in CONFIG[section].items():
            assert config[section][key] == value, (section, key)
    assert config["chunk_samples"] == CONFIG["chunk_samples"]
    for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"):
        assert config["text_config"][key] == CONFIG["text_config"][key]
    assert not [note for note in load_model(Checkpoint(output)).notes if "generation" not in note]


def test_the_result_is_built_and_answers(
    model: TorchWavLLM, tokenizer: Path, settings: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "final.pt", model)
    convert(source, tmp_path / "checkpoint", tokenizer, settings)
    build(tmp_path / "checkpoint", tmp_path / "artifact", BuildOptions((Profile("full", "full"),)))
    speech_lm = SpeechLM.load(tmp_path / "artifact", threads=1)
    ids = speech_lm._loaded.codec.encode("hello the")  # type: ignore[union-attr]
    text = json.loads((tmp_path / "checkpoint/config.json").read_text("utf-8"))["prompt_template"]
    assert ids.before.tolist() == text["left_token_ids"]
    assert ids.before[0] == ids.after[0] == 1
    result = speech_lm.generate(torch.randn(20000).numpy(), "hello the", max_new_tokens=3)
    assert len(result.hypotheses[0].tokens) > 0


def test_sixteen_bits_stay_sixteen_and_are_widened_before_they_are_folded(
    model: TorchWavLLM, tokenizer: Path, settings: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "final.pt", model, torch.float16)
    convert(source, tmp_path / "checkpoint", tokenizer, settings)
    (file,) = (tmp_path / "checkpoint").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    full = (Profile("full", "full"),)
    manifest = build(tmp_path / "checkpoint", tmp_path / "artifact", BuildOptions(full, fold_prompt="hello"))
    assert manifest.weight_origins == ("converted",)
    build(tmp_path / "checkpoint", tmp_path / "other", BuildOptions(full))
    wave = torch.randn(20000, generator=torch.Generator().manual_seed(0)).numpy()
    answers = [
        SpeechLM.load(tmp_path / name, threads=1).generate(wave, "hello", max_new_tokens=4, eos_token_ids=())
        for name in ("artifact", "other")
    ]
    assert answers[0].hypotheses[0].tokens == answers[1].hypotheses[0].tokens
    assert answers[0].hypotheses[0].score == pytest.approx(answers[1].hypotheses[0].score, abs=1e-4)


def test_files_of_weights_are_cut_where_they_grow_too_large(model: TorchWavLLM, tmp_path: Path) -> None:
    tensors = dict(list(model.tensors().items())[:40])
    largest = max(each.numel() * 4 for each in tensors.values())
    names = write_shards(tmp_path, tensors, largest + 1000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text("utf-8"))
    assert len(names) > 3
    assert set(index["weight_map"].values()) == set(names[:-1])
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])


class Evil:
    """What a pickle could do to whoever reads it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.place}",)


def refusal(source: Path, tokenizer: Path, tmp_path: Path) -> str:
    output = tmp_path / "refused"
    with pytest.raises(CheckpointError) as raised:
        convert(source, output, tokenizer)
    assert not output.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".refused")]
    return str(raised.value)


def test_objects_that_are_no_plain_data_are_refused_and_never_run(
    model: TorchWavLLM, tokenizer: Path, tmp_path: Path
) -> None:
    for content, name in ((Evil(tmp_path / "ran"), "system"), (Path("x"), "pathlib.PosixPath")):
        source = save(tmp_path / "final.pt", model, cfg=content)
        message = refusal(source, tokenizer, tmp_path)
        assert "it holds an object that is no plain data, and no code of a file is run: " in message
        assert name in message
    assert not (tmp_path / "ran").exists()


def test_files_without_a_known_model_are_refused(model: TorchWavLLM, tokenizer: Path, tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {"a": torch.zeros(2, dtype=torch.int64)}}, tmp_path / "whole.pt")
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "other.pt")
    whole = save(tmp_path / "final.pt", model).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "old.pt").write_bytes(b"\x80\x02junk")
    for name, message in {
        "none.pt": "no such file",
        "list.pt": "no weights under 'model'",
        "whole.pt": "'a' is torch.int64",
        "other.pt": "tensors such as a are of no known family; known: ",
        "cut.pt": "torch cannot read it",
        "old.pt": "not a file of torch.save since torch 1.6",
    }.items():
        assert message in refusal(tmp_path / name, tokenizer, tmp_path)


def test_a_size_that_the_tensors_do_not_tell_is_asked_for_by_the_name_of_the_output(
    model: TorchWavLLM, tokenizer: Path, settings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = save(tmp_path / "final.pt", model)
    message = refusal(source, tokenizer, tmp_path)
    assert message.startswith(f"{tmp_path / 'refused'}/config.json: text_config: num_attention_heads is 0")
    assert message.endswith("; what the tensors do not tell is given with --config")
    convert(source, tmp_path / "checkpoint", tokenizer, settings)
    (note,) = caplog.messages
    assert f"{tmp_path / 'checkpoint'}/config.json: generation: not taken" in note


def test_a_missing_tensor_is_found_before_anything_is_written(
    model: TorchWavLLM, tokenizer: Path, settings: Path, tmp_path: Path
) -> None:
    tensors = model.tensors()
    del tensors["gpt_model.model_llama.layers.2.attention.wk_lora_B"]
    source, stages = save(tmp_path / "final.pt", model, model=tensors), list[str]()
    with pytest.raises(CheckpointError, match=rf"{source}: tensor .*wk_lora_B is missing"):
        convert(source, tmp_path / "checkpoint", tokenizer, settings, report=stages.append)
    assert "write weights" not in stages


def test_a_folder_that_is_there_is_left_alone(model: TorchWavLLM, tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="exists; give another folder"):
        convert(save(tmp_path / "final.pt", model), tmp_path / "mine", tokenizer)
