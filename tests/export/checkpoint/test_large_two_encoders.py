"""WavLLM of 7B size is described by its tensors alone, and exported in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastadasp.export.model.families.parts.wavllm_original import config_of
from torch_wavllm import SEVEN_BILLION, seven_billion_shapes

from .test_large_checkpoint import BUILD, SHARDS, write_sparse_shard

REAL = Path(__file__).parents[4] / "shared/spec/wavllm_7b_config.json"  # data beside the clone
MAX_BYTES = 2_000_000_000
PROFILES = ("full", "dense-constant-50")


@pytest.fixture(scope="module")
def shapes():
    return seven_billion_shapes()


@pytest.fixture(scope="module")
def config(shapes):
    return config_of(shapes, lambda text: [518, 25580])


def test_the_tensors_tell_every_size_of_the_released_model(config):
    for section, values in SEVEN_BILLION.items():
        for key, value in values.items():
            assert config[section][key] == value, (section, key)
    assert config["chunk_samples"] == 480000


@pytest.mark.skipif(
    not REAL.is_file(), reason="the settings of the released model do not lie beside the clone"
)
def test_the_settings_are_those_of_the_released_model(config):
    expected = json.loads(REAL.read_text("utf-8"))
    expected["prompt_template"]["left_token_ids"] = config["prompt_template"]["left_token_ids"]
    assert {**config, "torch_dtype": "float32"} == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_a_7b_checkpoint_is_exported_in_little_memory_and_on_little_disk(shapes, config, tmp_path):
    checkpoint, target, weight_map = tmp_path / "checkpoint", tmp_path / "artifact", {}
    checkpoint.mkdir()
    for i in range(SHARDS):
        name, part = f"model-{i + 1:05}-of-{SHARDS:05}.safetensors", list(shapes.items())[i::SHARDS]
        write_sparse_shard(checkpoint / name, part)
        weight_map |= {tensor: name for tensor, _ in part}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (checkpoint / "config.json").write_text(json.dumps(config))
    arguments = [sys.executable, "-c", BUILD, str(checkpoint), str(target), *PROFILES]
    ran = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert int(ran.stdout) < MAX_BYTES
    assert sum(path.stat().st_size for path in (target / "weights").iterdir()) > 29e9
    assert sum(path.stat().st_blocks * 512 for path in target.rglob("*") if path.is_file()) < 100e6
    assert (target / "prompt_adapter.onnx").is_file()
