"""VibeVoice-ASR: settings of the released model, its prompts, and what is refused by name."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file, save_file

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.config_alone import ConfigAlone
from fastadasp.export.checkpoint.tokenizer import prompt_codec
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile
from fastadasp.profiles.errors import CheckpointError
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.memory.bound import ModelSizes, encoding_memory
from parity.models import sound
from tokenizer_checkpoints import RATE, save_vibevoice_asr, vibevoice_asr_inputs

TOKENIZER = {
    "model_type": "vibevoice_acoustic_tokenizer_encoder",
    "channels": 1,
    "depths": [3, 3, 3, 3, 3, 3, 8],
    "downsampling_ratios": [2, 2, 4, 5, 5, 8],
    "ffn_expansion": 4,
    "hidden_act": "gelu",
    "kernel_size": 7,
    "num_filters": 32,
    "rms_norm_eps": 1e-5,
    "vae_std": 0.625,
}
RELEASED = {
    "model_type": "vibevoice_asr",
    "architectures": ["VibeVoiceAsrForConditionalGeneration"],
    "acoustic_tokenizer_chunk_size": 1440000,
    "acoustic_tokenizer_encoder_config": {**TOKENIZER, "hidden_size": 64},
    "semantic_tokenizer_encoder_config": {**TOKENIZER, "hidden_size": 128},
    "audio_bos_token_id": 151646,
    "audio_eos_token_id": 151647,
    "audio_token_id": 151648,
    "text_config": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "layer_types": ["full_attention"] * 28,
        "max_position_embeddings": 131072,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        "vocab_size": 152064,
    },
}
GENERATION = {"do_sample": False, "eos_token_id": 151643, "pad_token_id": 151655, "max_new_tokens": 32768}
EXTRACTOR = {
    "eps": 1e-06,
    "feature_extractor_type": "VibeVoiceAcousticTokenizerFeatureExtractor",
    "feature_size": 1,
    "normalize_audio": True,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 24000,
    "target_dB_FS": -25,
}


def test_the_settings_of_the_released_model(tmp_path):
    """As public pages quote them."""
    for name, content in (
        ("config.json", RELEASED),
        ("generation_config.json", GENERATION),
        ("processor_config.json", {"feature_extractor": EXTRACTOR}),
    ):
        (tmp_path / name).write_text(json.dumps(content), "utf-8")
    model = load_model(ConfigAlone(tmp_path))
    dims, front_end, windows = model.decoder.dims, model.front_end, model.front_end.log_mel
    assert (dims.hidden_size, dims.num_layers, dims.num_heads, dims.num_kv_heads) == (3584, 28, 28, 4)
    assert front_end.audio_tokens(60 * RATE) == 450  # 7.5 a second
    assert (windows.sample_rate, windows.samples_per_row, windows.level) == (24000, 3200, -25)
    assert (windows.window_rows, windows.context_rows) == (225, 58)
    assert [each.context_samples for each in model.encoder.tokenizers] == [185562, 185562]
    assert front_end.longest_samples is None
    assert front_end.seconds_of(model.decoder.max_positions) == pytest.approx(131072 / 7.5, abs=0.2)
    assert (model.eos_token_ids, model.generation.given) == ((151643,), {"max_new_tokens": 32768})
    assert not model.notes
    tokenizers = sum(
        math.prod(tensor.shape) for tensor in model.tensors if "tokenizer_encoder" in tensor.name
    )
    assert 6.5e8 < tokenizers < 7.2e8


def test_an_hour_takes_the_memory_of_a_window_and_of_its_samples_and_rows(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RELEASED), "utf-8")
    model = load_model(ConfigAlone(tmp_path))
    sizes = ModelSizes(model.decoder.dims, model.front_end, model.tower_dims)
    minute, hour = (encoding_memory(sizes, seconds * RATE) for seconds in (60, 3600))
    assert 1.5e9 < minute.encoder < 2e9  # of 38 s: a window and what is before it
    rows = 3 * 4 * 3584 * 7.5  # bytes a second
    assert hour.encoder - minute.encoder == pytest.approx(3540 * rows)
    assert hour.audio < 3600 * RATE * 4 * 9


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny one, and its model."""
    folder = tmp_path_factory.mktemp("vibevoice_asr")
    return folder, save_vibevoice_asr(folder)


@pytest.mark.parametrize("text", ["", "Ada, Grace", "{seconds} <|AUDIO_DURATION", "说话的人"])
@pytest.mark.parametrize("samples", [1, 11999, 12345, 240_119])
def test_prompts_are_those_of_the_processor(checkpoint, text, samples):
    """They say how long the audio is, and have another form without a text."""
    folder, reference = checkpoint
    codec = prompt_codec(Checkpoint(folder), load_model(Checkpoint(folder)).prompt)
    asked = codec.encode(text or None)
    found = asked.about(samples / RATE)
    expected = vibevoice_asr_inputs(reference, folder, sound(samples), text)["input_ids"][0].tolist()
    tokens = -(-samples // 3200)
    audio = [reference.config.audio_token_id] * tokens
    assert [*found.before.tolist(), *audio, *found.after.tolist()] == expected
    assert found.num_text_rows <= asked.num_text_rows  # by which room is found before the audio is read


def test_a_text_that_is_taken_whole_says_the_length_where_its_mark_stands(checkpoint):
    folder, _ = checkpoint
    codec = prompt_codec(Checkpoint(folder), load_model(Checkpoint(folder)).prompt)
    whole, plain = "user <|box_start|> for <|AUDIO_DURATION|> s", "user <|box_start|> for 3.50 s"
    assert codec.encode(whole).about(3.5).after.tolist() == codec.encode(plain).about(9).after.tolist()


def test_names_of_tensors_may_be_those_of_the_class(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint[0], tmp_path / "named")
    tensors = load_file(folder / "model.safetensors")
    names = {name: f"model.{name.replace('language_model.model.', 'language_model.')}" for name in tensors}
    names["language_model.lm_head.weight"] = "lm_head.weight"
    save_file({names[name]: tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    expected, found = (load_model(Checkpoint(each)) for each in (checkpoint[0], folder))
    assert [names[it.name] for it in expected.tensors] == [it.name for it in found.tensors]
    assert len(found.tensors) == len(tensors)


def test_every_way_to_ask_says_how_long_the_audio_is(checkpoint, tmp_path):
    build(checkpoint[0], tmp_path / "artifact", BuildOptions((Profile("full", "full"),), weights="link"))
    samples, options = sound(40_000), {"max_new_tokens": 6}
    with SpeechLM.load(tmp_path / "artifact", threads=1) as model:
        codec = prompt_codec(Checkpoint(checkpoint[0]), model.manifest.prompt)
        ids, others = (codec.encode("Ada").about(seconds) for seconds in (40_000 / RATE, 2.0))
        assert ids.after.tolist() != others.after.tolist()
        expected = model.generate(samples, ids, **options)
        for found in (
            model.generate(samples, "Ada", **options),
            model.generate(model.encode(samples), "Ada", **options),
            model.submit(samples, "Ada", **options).result(),
        ):
            assert (found.hypotheses, found.text_rows) == (expected.hypotheses, ids.num_text_rows)
        assert "".join(model.stream(samples, "Ada", **options)).strip() == expected.hypotheses[0].text
        other = model.generate(samples, others, **options)
        assert other.hypotheses[0].score != expected.hypotheses[0].score


def changed(folder, target, path, value, name="config.json"):
    """A copy whose settings differ in one place."""
    shutil.copytree(folder, target)
    config = section = json.loads((target / name).read_text("utf-8"))
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    (target / name).write_text(json.dumps(config), "utf-8")
    return Checkpoint(target)


ACOUSTIC, SEMANTIC = "acoustic_tokenizer_encoder_config", "semantic_tokenizer_encoder_config"
CHANGES = [
    ((ACOUSTIC, "channels"), 2, r"channels 2 is not supported \(only 1\)"),
    ((ACOUSTIC, "hidden_act"), "relu", "hidden_act 'relu' is not supported"),
    ((ACOUSTIC, "downsampling_ratios"), [8, 0], "downsampling_ratios is .8, 0.: a list of whole numbers"),
    ((ACOUSTIC, "depths"), [1, 1], "are not one more than downsampling_ratios"),
    ((ACOUSTIC, "downsampling_ratios"), [1000, 1000, 1000], "rows of 1000000000 samples, far too many"),
    ((SEMANTIC, "downsampling_ratios"), [8, 20, 10], "rows of 1600 samples, those of the acoustic .* 3200"),
    (("acoustic_tokenizer_chunk_size",), 3000, "3000 is no whole number of rows of 3200 samples"),
    (("decoder_config",), {}, "layout of the code that was published first"),
]


@pytest.mark.parametrize(("path", "value", "message"), CHANGES)
def test_what_no_graph_does_is_refused_by_name(checkpoint, tmp_path, path, value, message):
    with pytest.raises(CheckpointError, match=message):
        load_model(changed(checkpoint[0], tmp_path / "changed", path, value))


EXTRACTORS = [
    ("feature_size", 2, "feature_size 2 is not supported"),
    ("pad_to_multiple_of", 1600, r"pad_to_multiple_of 1600 is not supported \(only 3200\)"),
    ("target_dB_FS", "loud", "target_dB_FS is 'loud'"),
    ("normalize_audio", 1, "normalize_audio is 1, true or false is expected"),
    ("eps", 2, "eps is above 1"),
]


@pytest.mark.parametrize(("key", "value", "message"), EXTRACTORS)
def test_a_front_end_that_is_none_here_is_refused(checkpoint, tmp_path, key, value, message):
    path = "feature_extractor", key
    with pytest.raises(CheckpointError, match=message):
        load_model(changed(checkpoint[0], tmp_path / "changed", path, value, "processor_config.json"))
