"""A Qwen-Audio checkpoint of version 1, its weights taken from a Qwen2-Audio that transformers can run."""

import json
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import AudioError, RequestError
from fastadasp.profiles.methods import METHODS
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.options import SearchOptions

from .conftest import with_bos
from .models import (
    AFTER,
    BEFORE,
    SAMPLE_RATE,
    answers,
    check_graph,
    forced_logits,
    our_rows,
    prompt_ids,
    reference_decoder,
    roughen,
    sound,
    window_rows,
)

ATOL = 5e-4  # of logits whose scale is 10; the error of the audio rows is part of it
WINDOW = 2 * SAMPLE_RATE  # samples
HOP = 160  # samples of a frame
SEQ_LENGTH, MAX_POSITIONS = 160, 200
TOKENS = [17, 91, 203, 150]
BOS_EOS = torch.randn(2, 64, generator=torch.Generator().manual_seed(6))
EDGES = np.pad(BOS_EOS, ((0, 0), (0, 2)))  # to which nothing attends


def schedule_of(method, wanted):
    """This one, or the one that the method has."""
    return wanted if wanted in METHODS[method].schedules else METHODS[method].schedules[0]


REDUCING = [name for name, method in METHODS.items() if method.reduces]
PROFILES = (
    Profile("full", "full"),
    *(
        Profile(method, method, schedule, int(schedule != "input"), ratio=Fraction(2, 7))
        for method in REDUCING
        for schedule in [schedule_of(method, "constant")]
    ),
    Profile("at-input", "average_merge", "input", ratio=Fraction(2, 7)),
    *(
        Profile(
            f"{method}-with-bos",
            method,
            schedule_of(method, "decay"),
            ratio=Fraction(1, 2),
            include_audio_bos=True,
        )
        for method in with_bos(REDUCING)
    ),
)
CONFIG = {
    "model_type": "qwen",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "kv_channels": 16,
    "intermediate_size": 2 * 96,  # gate and up together
    "vocab_size": 250,
    "layer_norm_epsilon": 1e-6,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "no_bias": True,
    "tie_word_embeddings": False,
    "seq_length": SEQ_LENGTH,
    "max_position_embeddings": MAX_POSITIONS,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "audio": {
        "n_mels": 80,
        "n_ctx": 100,
        "n_state": 32,
        "n_head": 2,
        "n_layer": 2,
        "output_dim": 64,
        "avg_pool": True,
        "add_audio_bos_eos_token": True,
        "audio_start_id": 240,
    },
}
NAMES = {  # transformers -> version 1
    r"model\.audio_tower\.embed_positions\.weight": "transformer.audio.positional_embedding",
    r"model\.audio_tower\.layer_norm\.": "transformer.audio.ln_post.",
    r"model\.audio_tower\.layers\.(\d+)\.": r"transformer.audio.blocks.\1.",
    r"model\.audio_tower\.": "transformer.audio.",
    r"model\.multi_modal_projector\.linear\.": "transformer.audio.proj.",
    r"model\.language_model\.embed_tokens\.": "transformer.wte.",
    r"model\.language_model\.norm\.": "transformer.ln_f.",
    r"model\.language_model\.layers\.(\d+)\.": r"transformer.h.\1.",
    r"self_attn_layer_norm\.": "attn_ln.",
    r"final_layer_norm\.": "mlp_ln.",
    r"(blocks\.\d+\.)self_attn\.q_proj\.": r"\1attn.query.",
    r"(blocks\.\d+\.)self_attn\.k_proj\.": r"\1attn.key.",
    r"(blocks\.\d+\.)self_attn\.v_proj\.": r"\1attn.value.",
    r"(blocks\.\d+\.)self_attn\.out_proj\.": r"\1attn.out.",
    r"fc1\.": "mlp.0.",
    r"fc2\.": "mlp.2.",
    r"input_layernorm\.": "ln_1.",
    r"post_attention_layernorm\.": "ln_2.",
    r"self_attn\.o_proj\.": "attn.c_proj.",
    r"mlp\.gate_proj\.": "mlp.w2.",
    r"mlp\.up_proj\.": "mlp.w1.",
    r"mlp\.down_proj\.": "mlp.c_proj.",
}


def version_1_name(name):
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def fused(tensors):
    """Query, key and value of each decoder layer as one tensor."""
    whole = {name: tensor for name, tensor in tensors.items() if "self_attn" not in name}
    for name in [name for name in tensors if "self_attn.q_proj" in name]:
        parts = [tensors[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
        whole[name.replace("self_attn.q_proj", "attn.c_attn")] = torch.cat(parts)
    return whole


@pytest.fixture(scope="module")
def model():
    audio = CONFIG["audio"]
    model = Qwen2AudioForConditionalGeneration._from_config(
        Qwen2AudioConfig(
            audio_config={
                "model_type": "qwen2_audio_encoder",
                "d_model": audio["n_state"],
                "encoder_layers": audio["n_layer"],
                "encoder_attention_heads": audio["n_head"],
                "encoder_ffn_dim": 4 * audio["n_state"],
                "num_mel_bins": audio["n_mels"],
                "max_source_positions": audio["n_ctx"],
            },
            text_config={
                "model_type": "qwen2",
                "hidden_size": CONFIG["hidden_size"],
                "intermediate_size": CONFIG["intermediate_size"] // 2,
                "num_hidden_layers": CONFIG["num_hidden_layers"],
                "num_attention_heads": CONFIG["num_attention_heads"],
                "num_key_value_heads": CONFIG["num_attention_heads"],
                "rms_norm_eps": CONFIG["layer_norm_epsilon"],
                "vocab_size": CONFIG["vocab_size"],
            },
        ),
        attn_implementation="eager",
    ).eval()
    roughen(model, seed=8)
    return model


@pytest.fixture(scope="module")
def artifact(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen_audio")
    checkpoint, output = folder / "checkpoint", folder / "artifact"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(json.dumps(CONFIG))
    tensors = fused({version_1_name(name): tensor for name, tensor in model.state_dict().items()})
    tensors["transformer.audio.audio_bos_eos_token.weight"] = BOS_EOS
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, checkpoint / "model.safetensors"
    )
    build(checkpoint, output, BuildOptions(PROFILES, weights="copy"))
    return output


@pytest.fixture(scope="module")
def speech_lm(artifact):
    return SpeechLM.load(artifact, threads=1)


def frames_of(samples):
    """A window and its frames: this encoder sees nothing but zeros after the last even one of whole hops."""
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    inputs = extractor(
        samples,
        sampling_rate=SAMPLE_RATE,
        padding="max_length",
        return_tensors="np",
    )
    frames = len(samples) // HOP
    mel = inputs["input_features"][0]
    mel[:, 2 * ((frames - 1) // 2 + 1) :] = 0
    return mel, frames


def expected_rows(model, samples):
    """One bos row, the frames of all windows, one eos row."""
    pieces = [samples[at : at + WINDOW] for at in range(0, len(samples), WINDOW)]
    windows = [window_rows(model, *frames_of(piece)) for piece in pieces]
    return np.concatenate([EDGES[:1], *windows, EDGES[1:]])


@pytest.mark.parametrize("num_samples", [480, 961, 9281, 31999, WINDOW, WINDOW + 1, 3 * WINDOW - 4000])
def test_audio_rows_have_one_bos_and_one_eos_around_the_frames_of_all_windows(model, speech_lm, num_samples):
    samples = sound(num_samples, seed=1)
    rows, expected = our_rows(speech_lm, samples), expected_rows(model, samples)
    assert rows.shape == expected.shape
    np.testing.assert_array_equal(rows[[0, -1]], EDGES)
    np.testing.assert_allclose(rows, expected, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("num_samples", [961, 20000, 80000])
@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_logits_equal_transformers_over_the_same_weights(model, speech_lm, profile, num_samples):
    samples = sound(num_samples, seed=2)
    resolved = speech_lm.manifest.profiles[profile]
    reference = reference_decoder(model, resolved, expected_rows(model, samples), bos_rows=1, eos_rows=1)
    decoder = speech_lm.decoder(profile, BEFORE, our_rows(speech_lm, samples), AFTER)
    expected, found = (forced_logits(one, TOKENS, CONFIG["vocab_size"]) for one in (reference, decoder))
    assert decoder.cache.prefix_lengths == reference.prefix_lengths
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("num_beams", [1, 5])
def test_answers_equal_the_reference(model, speech_lm, num_beams):
    samples = sound(50000, seed=3)
    options = SearchOptions(
        num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=10, eos_token_ids=()
    )
    for profile in ("full", "weighted_merge"):
        resolved = speech_lm.manifest.profiles[profile]
        reference = reference_decoder(model, resolved, expected_rows(model, samples), bos_rows=1, eos_rows=1)
        expected = answers(reference, options, CONFIG["vocab_size"])
        found = speech_lm.generate(samples, prompt_ids(), profile=profile, search=options).hypotheses
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-4)


def test_audio_beyond_the_training_is_answered_and_beyond_the_positions_refused_in_seconds(speech_lm):
    rows_of_text, new_tokens = len(BEFORE) + len(AFTER), 8
    frames = MAX_POSITIONS - rows_of_text - new_tokens - 2
    longest = frames * SAMPLE_RATE // 25
    speech_lm.generate(sound(longest), prompt_ids(), max_new_tokens=new_tokens)
    with pytest.raises(AudioError, match=rf"at most {longest / SAMPLE_RATE:.1f} s"):
        speech_lm.generate(sound(longest + 1000), prompt_ids(), max_new_tokens=new_tokens)


def test_a_text_prompt_without_a_tokenizer_is_refused(speech_lm):
    with pytest.raises(RequestError, match="no tokenizer"):
        speech_lm.generate(sound(9000), "hello")


def test_every_graph_passes_the_checker(artifact):
    for path in artifact.glob("*.onnx"):
        check_graph(path)
