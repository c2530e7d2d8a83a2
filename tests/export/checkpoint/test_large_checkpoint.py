"""A checkpoint of 7B size is exported without reading its weights into memory."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from shared_files import REAL_FILES as REAL

LAYERS, HIDDEN, FFN, VOCAB, SHARDS = 32, 4096, 11008, 156032, 5
needs_real_files = pytest.mark.skipif(not REAL.is_dir(), reason="the real settings do not lie there")
AUDIO_LAYERS, AUDIO_WIDTH, AUDIO_FFN = 32, 1280, 5120
MAX_BYTES = 1_500_000_000
PROFILES = ("full", "dense-constant-30", "dense-decay-50", "sparse-20")


def decoder_shapes():
    yield "language_model.model.embed_tokens.weight", (VOCAB, HIDDEN)
    yield "language_model.model.norm.weight", (HIDDEN,)
    yield "language_model.lm_head.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        base = f"language_model.model.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{base}.{norm}.weight", (HIDDEN,)
        for part in "qkvo":
            yield f"{base}.self_attn.{part}_proj.weight", (HIDDEN, HIDDEN)
        for part in "qkv":
            yield f"{base}.self_attn.{part}_proj.bias", (HIDDEN,)
        yield f"{base}.mlp.gate_proj.weight", (FFN, HIDDEN)
        yield f"{base}.mlp.up_proj.weight", (FFN, HIDDEN)
        yield f"{base}.mlp.down_proj.weight", (HIDDEN, FFN)


def encoder_shapes():
    d = AUDIO_WIDTH
    yield "audio_tower.conv1.weight", (d, 128, 3)
    yield "audio_tower.conv2.weight", (d, d, 3)
    yield "audio_tower.conv1.bias", (d,)
    yield "audio_tower.conv2.bias", (d,)
    yield "audio_tower.embed_positions.weight", (1500, d)
    yield "multi_modal_projector.linear.weight", (HIDDEN, d)
    yield "multi_modal_projector.linear.bias", (HIDDEN,)
    for part in ("weight", "bias"):
        yield f"audio_tower.layer_norm.{part}", (d,)
    for i in range(AUDIO_LAYERS):
        base = f"audio_tower.layers.{i}"
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            yield f"{base}.{norm}.weight", (d,)
            yield f"{base}.{norm}.bias", (d,)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{base}.self_attn.{part}.weight", (d, d)
            if part != "k_proj":
                yield f"{base}.self_attn.{part}.bias", (d,)
        yield f"{base}.fc1.weight", (AUDIO_FFN, d)
        yield f"{base}.fc1.bias", (AUDIO_FFN,)
        yield f"{base}.fc2.weight", (d, AUDIO_FFN)
        yield f"{base}.fc2.bias", (d,)


def write_sparse_shard(path, shapes):
    """A safetensors file of the right header and size that takes no disk: its data is a hole."""
    header, end = {}, 0
    for name, shape in shapes:
        size = 4
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


@pytest.fixture
def large_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    text = {"model_type": "qwen2", "intermediate_size": FFN, "vocab_size": VOCAB, "rms_norm_eps": 1e-5}
    config = {
        "model_type": "qwen2_audio",
        "text_config": text,
        "audio_config": {},
        "audio_token_index": 151646,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = [*encoder_shapes(), *decoder_shapes()]
    weight_map = {}
    for i in range(SHARDS):
        name = f"model-{i + 1:05}-of-{SHARDS:05}.safetensors"
        part = shapes[i::SHARDS]
        write_sparse_shard(folder / name, part)
        weight_map |= {tensor: name for tensor, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


# The peak is read from the process's own memory map: ru_maxrss would begin with that of the test runner.
BUILD = """
import sys
from pathlib import Path
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
profiles = tuple(load_profile(name) for name in sys.argv[3:])
manifest = build(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions(profiles))
assert manifest.weight_origins == ("linked",)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_a_7b_checkpoint_is_exported_in_little_memory_and_on_no_disk(large_checkpoint, tmp_path):
    target = tmp_path / "artifact"
    arguments = [sys.executable, "-c", BUILD, str(large_checkpoint), str(target), *PROFILES]
    ran = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert int(ran.stdout) < MAX_BYTES
    weights = sorted((target / "weights").iterdir())
    assert len(weights) == SHARDS
    assert sum(path.stat().st_size for path in weights) > 30e9
    assert sum(path.stat().st_blocks * 512 for path in target.rglob("*") if path.is_file()) < 50e6
    assert {f"prefill.{name}.onnx" for name in PROFILES} <= {path.name for path in target.iterdir()}


def version_1_shapes(config):
    """Every tensor of Qwen-Audio, version 1."""
    audio, d, m = config["audio"], config["hidden_size"], config["intermediate_size"] // 2
    a, base = audio["n_state"], "transformer.audio"
    yield "transformer.wte.weight", (config["vocab_size"], d)
    yield "transformer.ln_f.weight", (d,)
    yield "lm_head.weight", (config["vocab_size"], d)
    for i in range(config["num_hidden_layers"]):
        layer = f"transformer.h.{i}"
        yield f"{layer}.attn.c_attn.weight", (3 * d, d)
        yield f"{layer}.attn.c_attn.bias", (3 * d,)
        yield f"{layer}.attn.c_proj.weight", (d, d)
        yield f"{layer}.mlp.c_proj.weight", (d, m)
        for part in ("w1", "w2"):
            yield f"{layer}.mlp.{part}.weight", (m, d)
        for part in ("ln_1", "ln_2"):
            yield f"{layer}.{part}.weight", (d,)
    yield f"{base}.positional_embedding", (audio["n_ctx"], a)
    yield f"{base}.audio_bos_eos_token.weight", (2, d)
    sizes = {"conv1": (a, audio["n_mels"], 3), "conv2": (a, a, 3), "ln_post": (a,), "proj": (d, a)}
    for i in range(audio["n_layer"]):
        block = f"blocks.{i}"
        sizes |= {f"{block}.attn.{part}": (a, a) for part in ("query", "key", "value", "out")}
        sizes |= {f"{block}.{part}": (a,) for part in ("attn_ln", "mlp_ln")}
        sizes |= {f"{block}.mlp.0": (4 * a, a), f"{block}.mlp.2": (a, 4 * a)}
    for name, shape in sizes.items():
        yield f"{base}.{name}.weight", shape
        if not name.endswith("key"):
            yield f"{base}.{name}.bias", shape[:1]


@pytest.fixture
def real_checkpoint(request, tmp_path, large_checkpoint):
    """The files of a real checkpoint, over weights of its shapes that take no disk."""
    files = REAL / request.param
    if request.param == "qwen2_audio":
        folder = large_checkpoint
    else:
        folder = tmp_path / "version-1"
        folder.mkdir()
        config = json.loads((files / "config.json").read_text("utf-8"))
        write_sparse_shard(folder / "model.safetensors", version_1_shapes(config))
        shutil.copy(files / "chat_generation_config.json", folder / "generation_config.json")
    for file in files.iterdir():
        shutil.copy(file, folder)
    return folder


@needs_real_files
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
@pytest.mark.parametrize("real_checkpoint", ["qwen_audio", "qwen2_audio"], indirect=True)
def test_the_real_models_are_exported_in_little_memory(real_checkpoint, tmp_path):
    target, profiles = tmp_path / "artifact", ("full", "dense-constant-50")
    arguments = [sys.executable, "-c", BUILD, str(real_checkpoint), str(target), *profiles]
    ran = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert int(ran.stdout) < MAX_BYTES
    has_tokenizer = (real_checkpoint / "qwen.tiktoken").is_file()
    assert (target / "tokenizer.json").is_file() is has_tokenizer


REAL_SEARCH = {
    "qwen_audio": ("do_sample True, top_k 0, top_p 0.5", {"max_new_tokens": 512}, {151643, 151644, 151645}),
    "qwen2_audio": ("do_sample True, temperature 0.7", {"repetition_penalty": 1.1}, {151645}),
}


@needs_real_files
@pytest.mark.parametrize("real_checkpoint", REAL_SEARCH, indirect=True)
def test_the_settings_of_the_real_models_are_known_but_for_their_sampling(real_checkpoint):
    model = load_model(Checkpoint(real_checkpoint))
    family = json.loads((real_checkpoint / "config.json").read_text("utf-8"))["model_type"]
    sampling, search, stops = REAL_SEARCH["qwen_audio" if family == "qwen" else family]
    (note,) = model.notes
    assert f"generation_config.json: not taken from the checkpoint: {sampling}" in note
    assert model.generation.given == search
    assert set(model.eos_token_ids) == stops
