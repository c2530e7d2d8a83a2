"""Bad input of every kind: one line with value, place and remedy, exit code 2, and nothing left behind."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from fastadasp.evaluation.clips.read import read_clips
from fastadasp.export import pipeline
from fastadasp.export.cli import main
from fastadasp.profiles.errors import ArtifactError, AudioError, ClipsError, ProfileError
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact import verification
from fastadasp.runtime.artifact.manifest import MANIFEST_FORMAT
from fastadasp.runtime.audio.read import load_audio
from measured_figures import FIGURES, with_figures

RATE = 16000
SMALL, LARGE = 200_000, 20_000_000  # bytes; the tiny artifact lies in between
MS_RDONLY, MNT_DETACH = 1, 2  # of Linux
FAILS_TO_READ = Path("/proc/self/mem")  # a regular file that opens; nothing lies at its first address


def call(*args: object) -> Result:
    """Run the command line within this process."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def fault(*args: object) -> str:
    """The error line of a command that must fail with exit code 2 and print nothing else of note."""
    result = call(*args)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 2, result.output
    assert len(lines) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == lines[0], "the error must be the last line"
    assert "Traceback" not in result.output
    return lines[0]


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def own_artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


@pytest.fixture
def own_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def refused(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """From now on the system refuses to open one file."""
    opened = Path.open

    def open_file(self: Path, *args: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", open_file)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 0x40]))


# Audio


def test_missing_audio(tiny_artifact: Path, tmp_path: Path) -> None:
    line = fault("run", tiny_artifact, tmp_path / "none.wav")
    assert f"{tmp_path}/none.wav does not exist" in line
    assert "give a wav, flac, ogg or mp3 file" in line


def test_audio_that_is_a_folder(tiny_artifact: Path, tmp_path: Path) -> None:
    assert "is a folder" in fault("run", tiny_artifact, tmp_path)


def test_audio_without_a_name(tiny_artifact: Path, clip: Path) -> None:
    expected = "Error: a CLIP is empty; give the path of a file, or - for a pipe"
    assert fault("run", tiny_artifact, clip, "") == expected


def test_empty_audio(tiny_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert f"{path} is empty (0 bytes)" in fault("run", tiny_artifact, path)


def test_audio_without_samples(tiny_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "header.wav"
    soundfile.write(path, np.zeros(0, np.float32), RATE)
    assert f"{path} holds no samples" in fault("run", tiny_artifact, path)


def test_one_sample_of_audio(tiny_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.wav"
    soundfile.write(path, np.zeros(1, np.float32), RATE)
    line = fault("run", tiny_artifact, path)
    assert f"{path}: 0.1 ms give no audio token; at least 20.1 ms are needed" in line


def test_audio_with_a_sample_that_is_no_number(tiny_artifact: Path, tmp_path: Path) -> None:
    path, samples = tmp_path / "nan.wav", np.zeros(RATE, np.float32)
    samples[RATE // 2] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    line = fault("run", tiny_artifact, path)
    assert f"{path}: sample 8000 at 0.500 s: nan is not finite; repair the recording" in line


def test_corrupt_audio(tiny_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    assert f"{path} is corrupt or of an unknown format" in fault("run", tiny_artifact, path)


def test_audio_that_is_cut_short(tiny_artifact: Path, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(clip.read_bytes()[:-1000])
    assert f"{path} is cut short" in fault("run", tiny_artifact, path)


def test_audio_that_is_too_long_for_the_positions(tiny_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(60 * RATE, np.float32), RATE)
    line = fault("run", tiny_artifact, path, "--max-new-tokens", 100)
    assert f"{path}: 60.0 s take 1500 rows" in line
    assert "1024 positions hold at most 36.9 s: cut the audio or ask for fewer tokens" in line
    cutting = {
        (): "--segments",
        ("--stream",): "--segments, in place of --stream,",
        ("--json",): "--segments --format jsonl, in place of --json,",
    }
    for how, option in cutting.items():
        assert fault("run", tiny_artifact, path, *how).endswith(f"; {option} cuts it")
    ran = call("run", tiny_artifact, path, "--segments", "--format", "jsonl", "--max-new-tokens", 2)
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize("how", [(), ("--stream",), ("--json",)])
def test_a_faulty_clip_does_not_lose_the_answers_to_the_others(
    tiny_artifact: Path, clip: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    clips = (clip, tmp_path / "none.wav", clip)
    result = call("run", tiny_artifact, *clips, "--max-new-tokens", 3, "--prompt", "", *how)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith(f'{{"clip": "{clip}"' if "--json" in how else f"{clip}\t")
    assert second.startswith(first.split("\t")[0][:20])
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert f"{tmp_path}/none.wav does not exist" in errors[0]
    assert ("request" in result.stderr) == (not how)


def test_a_faulty_request_is_told_once_however_many_clips_there_are(tiny_artifact: Path, clip: Path) -> None:
    line = fault("run", tiny_artifact, clip, clip, "--raw-prompt", "hello")
    assert "<|AUDIO|> stands 0 times" in line


def test_a_budget_that_no_clip_could_meet_is_told_once(
    tiny_artifact: Path, clip: Path, tmp_path: Path
) -> None:
    measured = with_figures(tiny_artifact, tmp_path / "measured", FIGURES)
    line = fault("run", measured, clip, clip, "--profile", "auto", "--latency-budget", 0.01)
    assert "none of the accepted ones is predicted to take at most 0.01 s" in line


# Requests


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--beams", "Error: --beams is 0: give a whole number of at least 1"),
        ("--max-new-tokens", "Error: --max-new-tokens is 0: give a whole number of at least 1"),
    ],
)
def test_beams_and_tokens_below_one(tiny_artifact: Path, clip: Path, option: str, message: str) -> None:
    assert message in fault("run", tiny_artifact, clip, option, 0)


def test_all_faults_of_a_request_are_told_at_once_and_before_the_artifact_is_read(tmp_path: Path) -> None:
    options = ("--beams", 2, "--num-return-sequences", 3, "--min-new-tokens", 9, "--max-new-tokens", 4)
    line = fault("run", tmp_path / "no-artifact", "clip.wav", *options)
    assert "--num-return-sequences is 3 and --beams 2" in line
    assert "--min-new-tokens is 9 and --max-new-tokens 4" in line


def test_profile_that_the_artifact_lacks(tiny_artifact: Path, clip: Path) -> None:
    line = fault("run", tiny_artifact, clip, "--profile", "sparse-50")
    assert "profile 'sparse-50' is not in this artifact; it has: full, dense-constant-20, own-30" in line


def test_provider_that_onnxruntime_lacks(tiny_artifact: Path, clip: Path) -> None:
    line = fault("run", tiny_artifact, clip, "--provider", "AbacusExecutionProvider")
    assert "AbacusExecutionProvider" in line
    assert "it has: " in line


def test_options_of_another_backend(clip: Path) -> None:
    """Before the artifact is read."""
    more = ("--backend", "tensorrt", "--threads", 2, "--provider", "CPUExecutionProvider", "--lean")
    line = fault("run", "no-artifact", clip, *more)
    assert "threads, providers, prepack (--lean): no option of the backend tensorrt, which has none" in line


def test_streaming_with_beams(tiny_artifact: Path, clip: Path) -> None:
    assert "--beams is 2" in fault("run", tiny_artifact, clip, "--stream", "--beams", 2)


def test_stream_and_json_exclude_each_other(tiny_artifact: Path, clip: Path) -> None:
    assert "--stream and --json" in fault("run", tiny_artifact, clip, "--stream", "--json")


def test_prompt_that_names_two_places_of_audio(tiny_artifact: Path, clip: Path) -> None:
    assert "stands 2 times" in fault("run", tiny_artifact, clip, "--prompt", "<|AUDIO|><|AUDIO|>")


# Profiles


def build(checkpoint: Path, folder: Path, profile: object = "full", *more: object) -> str:
    """A build that must fail and leave `folder` as it was."""
    before = files_of(folder)
    line = fault("build", checkpoint, "-o", folder / "art", "--profile", profile, *more)
    assert files_of(folder) == before
    return line


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder for what a build may leave behind."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def profile_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_unknown_profile(tiny_checkpoint: Path, empty: Path) -> None:
    line = build(tiny_checkpoint, empty, "dense-constant-51")
    assert "profile 'dense-constant-51' is unknown" in line
    assert "dense-constant-50" in line


def test_all_profiles_that_are_unknown_are_told_at_once(tiny_checkpoint: Path, empty: Path) -> None:
    line = build(tiny_checkpoint, empty, "nope,full,nope2,none.toml")
    assert "profile 'nope', 'nope2' is unknown" in line
    assert "profile file none.toml does not exist" in line


def test_files_with_faults_in_a_folder_of_profiles_have_a_line_each_beside_the_good_ones(
    tmp_path: Path,
) -> None:
    method = 'method = "average_merge"\n'
    texts = {
        "bad": f"{method}ratio = 2\n",
        "good": f"{method}ratio = 0.3\n",
        "pyproject": "[project]\n[tool]\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text, "utf-8")
    result = CliRunner().invoke(main, ["profiles", "list", "--profiles-folder", str(tmp_path)])
    assert result.exit_code == 1
    assert {"full", "good"} <= {line.split()[0] for line in result.stdout.splitlines()[2:]}
    bad, foreign = result.stderr.splitlines()
    assert bad.startswith(f"left out: profile 'bad' in {tmp_path / 'bad.toml'}: ratio = 2 must")
    assert (
        f"{tmp_path / 'pyproject.toml'}: unknown keys 'project', 'tool': known keys are method, " in foreign
    )
    assert foreign.count("known keys are") == 1


def test_unknown_key_of_a_profile(
    tiny_checkpoint: Path, empty: Path, profile_file: Callable[[str], Path]
) -> None:
    path = profile_file('method = "weighted_merge"\nratio = 0.5\nstart = 2\n')
    line = build(tiny_checkpoint, empty, path)
    assert f"{path}: unknown key 'start': known keys are method, schedule, start_layer" in line


@pytest.mark.parametrize("ratio", ["1.0", "-0.1", "2"])
def test_ratio_outside_its_range(
    tiny_checkpoint: Path, empty: Path, profile_file: Callable[[str], Path], ratio: str
) -> None:
    line = build(tiny_checkpoint, empty, profile_file(f'method = "weighted_merge"\nratio = {ratio}\n'))
    assert f"ratio = {float(ratio):g}" in line.replace("1.0", "1")
    assert "must lie in [0, 1)" in line


def test_start_layer_that_the_model_lacks(
    tiny_checkpoint: Path, empty: Path, profile_file: Callable[[str], Path]
) -> None:
    path = profile_file('method = "weighted_merge"\nratio = 0.5\nstart_layer = 40\n')
    line = build(tiny_checkpoint, empty, path)
    assert "profile 'mine'" in line
    assert "start_layer 40 is out of range: this model has layers 0 to 3" in line


def test_flops_target_that_cannot_be_reached(
    tiny_checkpoint: Path, empty: Path, profile_file: Callable[[str], Path]
) -> None:
    text = 'method = "weighted_merge"\nstart_layer = 2\nflops_reduction_percent = 90\n'
    line = build(tiny_checkpoint, empty, profile_file(text))
    assert "flops_reduction_percent 90 is infeasible, at most " in line
    assert "lower the target or start earlier" in line


def test_profile_given_twice(tiny_checkpoint: Path, empty: Path) -> None:
    assert "profile full is given twice" in build(tiny_checkpoint, empty, "full", "--profile", "full")


def test_profile_file_that_is_no_toml(
    tiny_checkpoint: Path, empty: Path, profile_file: Callable[[str], Path]
) -> None:
    assert "not valid TOML" in build(tiny_checkpoint, empty, profile_file("method = \n"))


# Checkpoints


def test_missing_checkpoint(tmp_path: Path, empty: Path) -> None:
    assert f"checkpoint {tmp_path}/none: no such folder" in build(tmp_path / "none", empty)


def test_checkpoint_without_config(own_checkpoint: Path, empty: Path) -> None:
    (own_checkpoint / "config.json").unlink()
    assert f"checkpoint {own_checkpoint}: config.json is missing" in build(own_checkpoint, empty)


def test_config_that_is_no_json(own_checkpoint: Path, empty: Path) -> None:
    (own_checkpoint / "config.json").write_text("{")
    assert f"{own_checkpoint}/config.json: is no JSON: " in build(own_checkpoint, empty)


def test_unsupported_family(own_checkpoint: Path, empty: Path) -> None:
    edit(own_checkpoint / "config.json", model_type="parrot")
    line = build(own_checkpoint, empty)
    assert "model_type 'parrot' is not supported; known: aero (Aero), " in line
    assert ", qwen (Qwen-Audio), " in line


@pytest.mark.parametrize("section", ["text_config", "audio_config"])
def test_config_section_that_is_no_table(own_checkpoint: Path, empty: Path, section: str) -> None:
    edit(own_checkpoint / "config.json", **{section: [1]})
    assert section in build(own_checkpoint, empty)


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_truncated_checkpoint(own_checkpoint: Path, empty: Path, kept: int) -> None:
    path = own_checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    line = build(own_checkpoint, empty)
    assert str(path) in line
    assert "truncated" in line or "cut off" in line


def test_checkpoint_without_weights(own_checkpoint: Path, empty: Path) -> None:
    (own_checkpoint / "model.safetensors").unlink()
    assert "neither model.safetensors nor model.safetensors.index.json" in build(own_checkpoint, empty)


def test_checkpoint_with_a_missing_shard(own_checkpoint: Path, empty: Path) -> None:
    (own_checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (own_checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "shard model-00001-of-00002.safetensors is missing" in build(own_checkpoint, empty)


def test_checkpoint_with_a_damaged_tokenizer(own_checkpoint: Path, empty: Path) -> None:
    (own_checkpoint / "tokenizer.json").write_text("{")
    assert f"{own_checkpoint}/tokenizer.json" in build(own_checkpoint, empty)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.json", {"model_type": ["qwen2_audio"]}, "model_type ['qwen2_audio'] is not supported"),
        ("config.json", {"audio_token_index": "x"}, "audio_token_index is 'x', a whole number above 0"),
        ("generation_config.json", {"eos_token_id": "x"}, "eos_token_id is 'x', a token id of at least 0"),
        ("preprocessor_config.json", {"hop_length": None}, "hop_length is None, a whole number above 0"),
    ],
)
def test_settings_of_the_wrong_type(
    own_checkpoint: Path, empty: Path, name: str, values: dict[str, object], message: str
) -> None:
    edit(own_checkpoint / name, **values)
    line = build(own_checkpoint, empty)
    assert message in line
    assert str(own_checkpoint) in line


WHOLE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "entry",
    [[], {}, WHOLE | {"shape": "x"}, WHOLE | {"data_offsets": [8]}, WHOLE | {"dtype": "F16"}],
    ids=["a list", "empty", "no shape", "one offset", "too few bytes"],
)
def test_damaged_header_of_safetensors(own_checkpoint: Path, empty: Path, entry: object) -> None:
    path = own_checkpoint / "model.safetensors"
    header = json.dumps({"a.weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    line = build(own_checkpoint, empty)
    assert str(path) in line
    assert "a.weight" in line
    assert "copy it again" in line


def test_sizes_that_do_not_fit_the_weights(own_checkpoint: Path, empty: Path) -> None:
    config = json.loads((own_checkpoint / "config.json").read_text())
    edit(own_checkpoint / "config.json", text_config={**config["text_config"], "intermediate_size": 256})
    line = build(own_checkpoint, empty)
    assert "mlp.gate_proj.weight has shape [128, 64], config.json asks for [256, 64]" in line


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            "text_config",
            {"num_attention_heads": 3},
            "hidden_size 64 is not divisible by num_attention_heads 3",
        ),
        (
            "text_config",
            {"num_key_value_heads": 3},
            "num_attention_heads 4 is not divisible by num_key_value",
        ),
        ("text_config", {"head_dim": 15}, "head_dim 15 is odd"),
        ("text_config", {"head_dim": "x"}, "head_dim is 'x', a whole number above 0 is expected"),
        ("text_config", {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, a number above 0 is expected"),
        ("text_config", {"rms_norm_eps": float("inf")}, "rms_norm_eps is inf, a number above 0 is expected"),
        ("text_config", {"rms_norm_eps": 10**400}, "rms_norm_eps is 1000"),
        ("text_config", {"rope_parameters": {"rope_theta": float("nan")}}, "rope_theta is nan"),
        ("text_config", {"rope_parameters": {"rope_theta": -1}}, "rope: rope_theta is -1"),
        ("text_config", {"rope_parameters": {"rope_theta": 1e-300}}, "a number of at least 1 is expected"),
        (
            "text_config",
            {"num_hidden_layers": 10**9},
            "num_hidden_layers is 1000000000, a whole number above",
        ),
        ("text_config", {"max_position_embeddings": 10**9}, "max_position_embeddings is 1000000000"),
        ("text_config", {"hidden_size": 10**400}, "hidden_size is 1000"),
        ("text_config", {"vocab_size": -1}, "vocab_size is -1"),
        (
            "audio_config",
            {"encoder_attention_heads": 5},
            "d_model 32 is not divisible by encoder_attention_h",
        ),
        ("audio_config", {"encoder_layers": 10**9}, "encoder_layers is 1000000000"),
        ("audio_config", {"max_source_positions": 10**9}, "max_source_positions is 1000000000"),
    ],
)
def test_sizes_that_no_model_has(
    own_checkpoint: Path, empty: Path, section: str, values: dict[str, object], message: str
) -> None:
    config = own_checkpoint / "config.json"
    edit(config, **{section: json.loads(config.read_text())[section] | values})
    line = build(own_checkpoint, empty)
    assert f"{config}: {section}" in line
    assert message in line
    assert line.endswith("take the settings of the original checkpoint")
    assert len(line) < 500


@pytest.mark.parametrize("setting", ["eos_token_id", "suppress_tokens", "begin_suppress_tokens"])
def test_ids_of_a_search_that_are_no_tokens(own_checkpoint: Path, empty: Path, setting: str) -> None:
    """A build that takes them makes an artifact that no command opens."""
    size = json.loads((own_checkpoint / "config.json").read_text())["text_config"]["vocab_size"]
    edit(own_checkpoint / "generation_config.json", **{setting: [2, size]})
    assert f"{size} is not one of {size} tokens" in build(own_checkpoint, empty)


def test_all_faults_of_the_settings_are_told_at_once(own_checkpoint: Path, empty: Path) -> None:
    config = own_checkpoint / "config.json"
    content = json.loads(config.read_text())
    text = content["text_config"] | {"hidden_size": 0, "rms_norm_eps": -1, "hidden_act": "gelu"}
    edit(config, text_config=text, audio_config=content["audio_config"] | {"d_model": None})
    line = build(own_checkpoint, empty)
    for fault in ("hidden_size is 0", "rms_norm_eps is -1", "hidden_act 'gelu'", "d_model is None"):
        assert line.count(fault) == 1


@pytest.mark.parametrize("values", [{"n_fft": 401}, {"n_fft": 100}, {"n_fft": 10**9}, {"hop_length": 10**9}])
def test_a_front_end_that_cannot_be(own_checkpoint: Path, empty: Path, values: dict[str, int]) -> None:
    edit(own_checkpoint / "preprocessor_config.json", **values)
    line = build(own_checkpoint, empty)
    (key,) = values
    assert f"{own_checkpoint}/preprocessor_config.json: {key}" in line
    assert "original checkpoint" in line


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
@pytest.mark.parametrize("levels", [150, 100_000])
def test_a_file_that_is_nested_too_deeply(own_checkpoint: Path, empty: Path, name: str, levels: int) -> None:
    path = own_checkpoint / name
    deep = "[" * levels + "]" * levels
    path.write_text(path.read_text("utf-8").rstrip()[:-1] + f', "deep": {deep}}}', "utf-8")
    line = build(own_checkpoint, empty)
    assert f"{path}: " in line
    assert "nested" in line


def test_a_hub_id_given_as_a_folder(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(empty)
    line = fault("build", "Qwen/Qwen2-Audio-7B", "-o", "art", "--profile", "full")
    assert "checkpoint Qwen/Qwen2-Audio-7B: no such folder" in line
    assert "hf download Qwen/Qwen2-Audio-7B --local-dir Qwen2-Audio-7B" in line


def test_an_artifact_given_as_a_checkpoint(tiny_artifact: Path, empty: Path) -> None:
    line = build(tiny_artifact, empty)
    assert f"checkpoint {tiny_artifact}: is an artifact" in line
    assert "give the checkpoint that it was built from" in line
    assert "save_pretrained" not in line


def test_other_things_given_as_a_checkpoint(own_checkpoint: Path, tmp_path: Path, empty: Path) -> None:
    assert "is a file; give the folder" in build(own_checkpoint / "model.safetensors", empty)
    (tmp_path / "models--Qwen--Qwen2-Audio-7B/snapshots/0123").mkdir(parents=True)
    assert "config.json below" in build(tmp_path / "models--Qwen--Qwen2-Audio-7B", empty)
    (own_checkpoint / "model.safetensors").rename(own_checkpoint / "pytorch_model.bin")
    assert "pytorch_model.bin, which is not read" in build(own_checkpoint, empty)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


# Artifacts


def test_missing_artifact(tmp_path: Path, clip: Path) -> None:
    line = fault("run", tmp_path / "none", clip)
    assert f"artifact {tmp_path}/none: no such folder; check the path" in line


def test_what_is_no_artifact_is_told(
    tiny_checkpoint: Path, own_artifact: Path, empty: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"artifact {clip}: it is a file; give the folder" in fault("run", clip, empty)
    line = fault("run", tiny_checkpoint, clip)
    assert f"it is a checkpoint; build it first: fastadasp-export build {tiny_checkpoint} -o ART" in line
    assert f"artifact {empty}: no manifest.json there; make one with" in fault("run", empty, clip)
    weights = own_artifact / "weights"
    assert f"artifact {weights}: it is a part of the artifact {own_artifact}; give that" in fault(
        "inspect", weights
    )
    within = weights / "a" / "b"
    within.mkdir(parents=True)
    monkeypatch.chdir(within)
    for folder in (".", "..", within):
        assert f"artifact {folder}: it is a part of the artifact {own_artifact}; give that" in fault(
            "inspect", folder
        )
    (empty / "manifest.json").write_text("{}", "utf-8")  # of something else
    inside = shutil.copytree(tiny_checkpoint, empty / "checkpoint")
    assert "it is a checkpoint; build it first" in fault("inspect", inside)
    (empty / "manifest.json").unlink()
    (own_artifact / "manifest.json").unlink()
    assert "no manifest.json there; make one with" in fault("run", own_artifact, clip)


@pytest.mark.parametrize("name", ["prefill.full.onnx", "decode.onnx", "encoder.onnx", "tokenizer.json"])
def test_a_flipped_byte_in_any_small_file(own_artifact: Path, clip: Path, name: str) -> None:
    flip(own_artifact / name, (own_artifact / name).stat().st_size // 2)
    line = fault("run", own_artifact, clip)
    assert f"artifact {own_artifact}: {name} does not match its hash; build or copy it again" in line


def test_a_flipped_byte_in_small_weights(own_artifact: Path, clip: Path) -> None:
    flip(own_artifact / "weights/model.safetensors", 100_001)
    assert "weights/model.safetensors does not match its hash" in fault("run", own_artifact, clip)


def test_a_flipped_byte_in_large_weights(
    own_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny weights are made as large for the runtime as those of a real model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verification, "LARGE_BYTES", 0)
    weights = own_artifact / "weights/model.safetensors"
    assert call("inspect", own_artifact).exit_code == 0
    for offset in np.random.default_rng(0).integers(weights.stat().st_size, size=5).tolist():
        flip(weights, offset)
        expected = "weights/model.safetensors does not match its hash; build or copy it again"
        assert expected in fault("inspect", own_artifact)
        assert expected in fault("inspect", own_artifact, "--verify")
        assert "large ones by their size" in call("inspect", own_artifact, "--no-verify").stdout
        flip(weights, offset)


def test_any_flipped_byte_in_the_manifest(own_artifact: Path) -> None:
    path = own_artifact / "manifest.json"
    whole = path.read_bytes()
    for offset in np.linspace(0, len(whole) - 3, 40).astype(int).tolist():
        path.write_bytes(whole)
        flip(path, offset)
        line = fault("inspect", own_artifact)
        assert str(path) in line
        assert "again" in line


def test_missing_files_of_an_artifact_are_all_named(own_artifact: Path, clip: Path) -> None:
    (own_artifact / "decode.onnx").unlink()
    (own_artifact / "weights/model.safetensors").unlink()
    line = fault("run", own_artifact, clip)
    assert "decode.onnx is missing" in line
    assert "weights/model.safetensors is missing" in line


@pytest.mark.skipif(not FAILS_TO_READ.exists(), reason="no file that opens and fails to be read")
@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "weights/model.safetensors"])
def test_a_file_of_an_artifact_that_cannot_be_read(own_artifact: Path, clip: Path, name: str) -> None:
    (own_artifact / name).unlink()
    (own_artifact / name).symlink_to(FAILS_TO_READ)
    assert f"artifact {own_artifact}: {name} " in fault("run", own_artifact, clip)
    with pytest.raises(ArtifactError, match=r"cannot be read \(Input/output error\)|has \d+ bytes"):
        SpeechLM.load(own_artifact)


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "weights/model.safetensors"])
def test_a_file_of_an_artifact_that_may_not_be_read(
    own_artifact: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As the superuser may read every file, the system is made to say no."""
    refused(monkeypatch, own_artifact / name)
    expected = rf"artifact {own_artifact}: {name} cannot be read \(Permission denied\): check the path"
    with pytest.raises(ArtifactError, match=expected):
        SpeechLM.load(own_artifact)


def test_a_graph_that_may_not_be_read_any_more(
    own_artifact: Path, monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    model = SpeechLM.load(own_artifact, "full")
    other = next(name for name in model.profiles if name != "full")
    refused(monkeypatch, own_artifact / f"prefill.{other}.onnx")
    with pytest.raises(ArtifactError, match=rf"prefill.{other}.onnx cannot be read \(Permission denied\)"):
        model.generate(clip, "", profile=other, max_new_tokens=1)


def test_names_that_are_too_long_for_the_system() -> None:
    with pytest.raises(ArtifactError, match=r"cannot be read \(File name too long\)"):
        SpeechLM.load("a" * 300)
    with pytest.raises(ClipsError, match=r"cannot be read \(File name too long\)"):
        read_clips("a" * 300)
    with pytest.raises(ProfileError, match="cannot be read: File name too long"):
        load_profile("mine", [Path("a" * 300)])
    with pytest.raises(ProfileError, match=r"a\.toml cannot be read: File name too long; check"):
        load_profile(f"{'a' * 300}.toml")


@pytest.mark.skipif(not FAILS_TO_READ.exists(), reason="no file that opens and fails to be read")
def test_clip_lists_and_audio_that_cannot_be_read() -> None:
    with pytest.raises(ClipsError, match=r"clip list: /proc/self/mem cannot be read \(Input/output error\)"):
        read_clips(FAILS_TO_READ)
    with pytest.raises(AudioError, match="/proc/self/mem cannot be read: Invalid argument"):
        load_audio(FAILS_TO_READ, RATE)


@pytest.mark.parametrize("version", [3, 4, 99])
def test_artifact_of_another_format_version(own_artifact: Path, version: int) -> None:
    edit(own_artifact / "manifest.json", format_version=version)
    line = fault("inspect", own_artifact)
    read = f"this version of fastadasp-export reads {MANIFEST_FORMAT}"
    assert f"format version {version}, {read}; build the artifact again" in line


# Output


def test_output_that_exists_is_kept_without_force(tiny_checkpoint: Path, own_artifact: Path) -> None:
    before = files_of(own_artifact)
    line = fault("build", tiny_checkpoint, "-o", own_artifact, "--profile", "full")
    assert f"output {own_artifact} exists; give another folder, or --force to replace it" in line
    assert files_of(own_artifact) == before


def test_force_does_not_replace_a_folder_that_is_no_artifact(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    line = fault("build", tiny_checkpoint, "-o", tmp_path / "precious", "--profile", "full", "--force")
    assert "is not an artifact; --force replaces artifacts only" in line
    assert (tmp_path / "precious").is_dir()


def test_output_below_a_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    line = fault("build", tiny_checkpoint, "-o", tmp_path / "file/art", "--profile", "full")
    assert f"output {tmp_path}/file/art: {tmp_path}/file is a file; choose another folder" in line
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_output_below_a_folder_that_cannot_be_written(tiny_checkpoint: Path, empty: Path) -> None:
    empty.chmod(0o500)
    assert "Permission denied; choose a folder that can be written" in build(tiny_checkpoint, empty)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of its own, of so many bytes, writable or not."""
    folder, libc = tmp_path / "disk", ctypes.CDLL(None, use_errno=True)
    folder.mkdir()

    def mount(size: int, flags: int = 0) -> Path:
        if sys.platform != "linux":
            pytest.skip("mounting a disk of so many bytes is done as Linux does it")
        if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", flags, f"size={size}".encode()):
            pytest.skip(f"mounting a disk needs privileges: {os.strerror(ctypes.get_errno())}")
        return folder

    yield mount
    libc.umount2(bytes(folder), MNT_DETACH)


def test_a_disk_that_fills_up_during_a_build(tiny_checkpoint: Path, disk: Callable[..., Path]) -> None:
    small_disk = disk(SMALL)
    line = build(tiny_checkpoint, small_disk, "full", "--weights", "copy")
    assert f"output {small_disk}/art: the disk is full; free some space and build again" in line


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_write_that_finds_the_disk_full(
    tiny_checkpoint: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The disk fills up with the encoder, the decode step, the prefill or the manifest."""
    writers, written = {name: getattr(Path, name) for name in ("write_bytes", "write_text")}, 0

    def limited(name: str) -> Callable[..., int]:
        def write(path: Path, *args: str) -> int:
            nonlocal written
            written += 1
            if written == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return int(writers[name](path, *args))

        return write

    for name in writers:
        monkeypatch.setattr(Path, name, limited(name))
    assert "the disk is full" in build(tiny_checkpoint, empty)


def test_output_on_a_disk_that_cannot_be_written(tiny_checkpoint: Path, disk: Callable[..., Path]) -> None:
    line = build(tiny_checkpoint, disk(SMALL, MS_RDONLY))
    assert "Read-only file system; choose a folder that can be written" in line


def test_weights_on_another_disk_cannot_be_linked(tiny_checkpoint: Path, disk: Callable[..., Path]) -> None:
    line = build(tiny_checkpoint, disk(LARGE))
    assert "cannot be hard-linked into the artifact" in line
    assert "use --weights copy" in line


def test_benchmark_results_that_have_no_place(tiny_artifact: Path, tmp_path: Path) -> None:
    line = fault("bench", tiny_artifact, "-o", tmp_path / "none/results.json")
    assert f"{tmp_path}/none is no folder that can be written; choose another" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beams", "1,x"), "'1,x' is no list of numbers such as 1,5"),
        (("--beams", "0"), "--beams is 0: give a whole number of at least 1"),
        (
            ("--audio-seconds", "-3,nan"),
            "--audio-seconds is -3: give a number above 0; --audio-seconds is nan",
        ),
        (("--runs", "0"), "--runs is 0: give a whole number of at least 1"),
        (("--profile", "full,none"), "profile none is not in this artifact; it has: full, "),
        (("--clip", "none.wav"), "audio none.wav does not exist"),
    ],
)
def test_bad_options_of_a_benchmark(tiny_artifact: Path, options: tuple[str, str], message: str) -> None:
    assert message in fault("bench", tiny_artifact, *options)


def test_recorded_outputs_that_are_missing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    line = fault("check", tiny_checkpoint, "--golden", tmp_path)
    assert f"recorded outputs {tmp_path}: golden.json is missing" in line


# Interrupts


def test_an_interrupted_build_leaves_nothing_behind(
    tiny_checkpoint: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        assert files_of(empty), "it has begun to write"
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "manifest_of", interrupted)
    result = CliRunner().invoke(
        main, ["build", str(tiny_checkpoint), "-o", f"{empty}/art", "--profile", "full"]
    )
    assert result.exit_code == 130
    assert "Aborted!" in result.stderr
    assert files_of(empty) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_an_interrupted_run_ends_without_a_traceback(tiny_artifact: Path) -> None:
    command = [sys.executable, "-m", "fastadasp.export", "run", str(tiny_artifact), "-"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, preexec_fn=_mind_interrupts) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"RIFF")
        process.stdin.flush()
        _wait_until_read(process.stdin.fileno())
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read().decode()
        assert process.wait() == 130
    assert stderr.strip() == "Aborted!"


def _mind_interrupts() -> None:
    """Whoever starts the tests in the background of a shell has them ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_read(pipe: int, seconds: float = 60) -> None:
    """Until the process has read the bytes in its pipe, which it does once the model is loaded."""
    waiting, deadline = array.array("i", [1]), time.monotonic() + seconds
    while waiting[0]:
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
        assert time.monotonic() < deadline, "the process does not read"
        time.sleep(0.02)


def test_a_fault_of_the_system_names_the_file(
    tiny_artifact: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "some.file")

    monkeypatch.setattr(SpeechLM, "load", unreadable)
    assert "some.file: Permission denied; check the path" in fault("run", tiny_artifact, clip)


def test_errors_of_several_lines_become_one(
    tiny_artifact: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ArtifactError("one\ntwo")

    monkeypatch.setattr(SpeechLM, "load", broken)
    assert fault("run", tiny_artifact, clip) == "Error: one two"


def test_usage_errors_have_the_same_exit_code() -> None:
    assert isinstance(main, click.Group)
    assert "Missing argument 'ARTIFACT'" in fault("run")
    assert "No such command 'dance'" in fault("dance")
