"""WavLLM under every method, its LoRA as an input and folded, against LLaMA of transformers, folded."""

import json
import shutil
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import tiny_tokenizer
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.spec_decoder import SpecDecoder
from fastadasp.profiles import signature as sig
from fastadasp.profiles.errors import CheckpointError, RequestError
from fastadasp.profiles.methods import METHODS
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import PromptIds, SpeechLM
from fastadasp.runtime.decoding.prompt_adapter import MOST_KEPT, PromptAdapter
from fastadasp.runtime.latency import Stopwatch
from torch_wavllm import TEXT, TorchWavLLM

from .models import check_graph, forced_logits, reference_decoder, sound

ATOL = 3e-4  # of logits whose scale is about 4
VOCAB = TEXT["vocab_size"]
TOKENS = [17, 91, 203, 150]
TEXTS = "hello", "the audio"
PROFILES = (
    Profile("full", "full"),
    *(
        Profile(
            f"{name}-{schedule}", name, schedule, int(schedule in ("constant", "decay")), ratio=Fraction(2, 7)
        )
        for name, method in METHODS.items()
        for schedule in method.schedules
        if method.reduces and not method.weighs_by_encoder  # which it cannot tell
    ),
    Profile("kept", "weighted_merge", "constant", 0, ratio=Fraction(2, 7), positions="kept"),
)


@pytest.fixture(scope="module")
def model():
    return TorchWavLLM(seed=5)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavllm") / "checkpoint"
    model.save(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def artifact(checkpoint):
    output = checkpoint.parent / "artifact"
    build(checkpoint, output, BuildOptions(PROFILES, weights="copy"))
    return output


@pytest.fixture(scope="module")
def speech_lm(artifact):
    return SpeechLM.load(artifact, threads=1)


@pytest.fixture(scope="module")
def folded_lm(checkpoint):
    output = checkpoint.parent / "folded"
    build(checkpoint, output, BuildOptions(PROFILES[:3], fold_prompt=TEXTS[0]))
    return SpeechLM.load(output, threads=1)


@pytest.fixture(scope="module")
def rows(model):
    return model.tower(sound(30000)).numpy()


def ids_of(speech_lm, text):
    return speech_lm._loaded.codec.encode(text)


def llama_for(model, adapter_ids):
    """transformers' LLaMA, whose weights hold the LoRA of one prompt and whose heads are in halves."""
    config = LlamaConfig(
        **{key: value for key, value in TEXT.items() if key not in ("model_type", "rope_interleaved")}
    )
    llama = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval()
    strength = model.llama.strength(adapter_ids.tolist())
    state = model.llama.state_dict()
    names = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    names |= {
        f"feed_forward.{old}": f"mlp.{new}_proj"
        for old, new in (("w1", "gate"), ("w2", "down"), ("w3", "up"))
    }
    found = {
        "model.embed_tokens.weight": state["tok_embeddings.weight"],
        "model.norm.weight": state["norm.weight"],
        "lm_head.weight": state["output.weight"],
    }
    for i in range(TEXT["num_hidden_layers"]):
        for old, new in names.items():
            found[f"model.layers.{i}.{new}.weight"] = state[f"layers.{i}.{old}.weight"]
        for part in "qkvo":
            base = f"layers.{i}.attention.w{part}"
            lora = state[f"{base}_lora_A"] @ (state[f"{base}_lora_B"] * strength)
            weight = state[f"{base}.weight"] + lora.T
            if part in "qk":
                weight = (
                    weight.unflatten(0, (TEXT["num_attention_heads"], -1, 2)).transpose(1, 2).flatten(0, 2)
                )
            found[f"model.layers.{i}.self_attn.{part}_proj.weight"] = weight
    llama.load_state_dict(found)
    return llama


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_every_method_equals_transformers_with_folded_weights(model, speech_lm, rows, profile, text):
    ids = ids_of(speech_lm, text)
    resolved = speech_lm.manifest.profiles[profile]
    theirs = reference_decoder(llama_for(model, ids.adapter), resolved, rows, ids.before, ids.after)
    mine = speech_lm.decoder(profile, ids.before, rows, ids.after, adapter=ids.adapter)
    expected, found = (forced_logits(each, TOKENS, VOCAB) for each in (theirs, mine))
    assert mine.cache.prefix_lengths == theirs.prefix_lengths
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


def test_prompts_change_the_answer_by_more_than_their_words(speech_lm, rows):
    """The same ids around the audio, and LoRA as strong as either prompt makes it."""
    ids, other = (ids_of(speech_lm, text) for text in TEXTS)
    logits = [
        forced_logits(
            speech_lm.decoder("full", ids.before, rows, ids.after, adapter=each.adapter), TOKENS, VOCAB
        )
        for each in (ids, other)
    ]
    assert np.abs(logits[0] - logits[1]).max() > 100 * ATOL


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES[:3]])
def test_a_folded_prompt_gives_the_answers_of_the_input(speech_lm, folded_lm, rows, profile, num_beams):
    ids, vocab = ids_of(speech_lm, TEXTS[0]), VOCAB
    inputs = {"profile": profile, "before": ids.before, "rows": rows, "after": ids.after}
    as_input = speech_lm.decoder(**inputs, adapter=ids.adapter)
    np.testing.assert_allclose(
        forced_logits(folded_lm.decoder(**inputs), TOKENS, vocab),
        forced_logits(as_input, TOKENS, vocab),
        atol=ATOL,
        rtol=0,
    )
    options = {"profile": profile, "num_beams": num_beams, "max_new_tokens": 8, "eos_token_ids": ()}
    expected, found = (each.generate(sound(30000), TEXTS[0], **options) for each in (speech_lm, folded_lm))
    assert [h.tokens for h in found.hypotheses] == [h.tokens for h in expected.hypotheses]
    assert found.hypotheses[0].score == pytest.approx(expected.hypotheses[0].score, abs=1e-4)


def test_an_artifact_of_one_prompt_refuses_the_others(folded_lm):
    assert folded_lm.manifest.decoder.request_inputs == ()
    assert folded_lm.manifest.graphs["onnxruntime"].prompt_adapter is None
    assert folded_lm.generate(sound(9000), max_new_tokens=2).text is not None, "it is the default prompt"
    for prompt in (TEXTS[1], "", PromptIds([1, 5], [6]), PromptIds([1, 5], [6], [7])):
        with pytest.raises(RequestError, match="answers 'hello' alone, which was folded into its weights"):
            folded_lm.generate(sound(9000), prompt)


def test_texts_become_the_ids_of_the_template(speech_lm):
    plain = speech_lm._loaded.codec._tokens
    ids = ids_of(speech_lm, "hello {prompt}")
    assert ids.before.tolist() == [1, *plain("[to the user] ")]
    assert ids.after.tolist() == [1, *plain(" the hello {prompt}!")[1:]]
    assert ids.adapter.tolist() == plain('"hello {prompt}"')
    own = speech_lm._loaded.codec.encode("hello", "be brief")
    assert own.before.tolist() == [1, *plain("[be brief] ")]


def test_ids_without_those_for_the_adapter_are_refused(speech_lm):
    with pytest.raises(RequestError, match="none for the prompt adapter, which decides the strength of"):
        speech_lm.generate(sound(9000), PromptIds([1, 5], [6]))
    with pytest.raises(
        RequestError, match=r"prompt: \d+ tokens are more than this model's 300 positions; sho"
    ):
        speech_lm.generate(sound(9000), "hello " * 300)
    with pytest.raises(RequestError, match="token 400 is not one of this model's 400 tokens"):
        speech_lm.generate(sound(9000), PromptIds([1, 5], [6], [400]))
    with pytest.raises(RequestError, match="those for the prompt adapter are missing"):
        speech_lm.decoder("full", np.array([1]), np.zeros((2, 32), np.float32), np.array([1]))


def test_the_rules_of_the_original_generator_are_the_defaults(speech_lm):
    search = speech_lm.search_options()
    assert search.suppress_tokens == (0,)
    assert search.begin_suppress_tokens == search.eos_token_ids == (2,)


class CountedSession:
    """A prompt adapter that counts its runs."""

    def __init__(self):
        self.runs = 0

    def run(self, inputs):
        self.runs += 1
        return {sig.LORA_SCALE: inputs[sig.ADAPTER_IDS].astype(np.float32)}

    def read(self, tensor):
        return tensor


def test_the_strength_of_a_prompt_is_computed_once_and_the_last_ones_are_kept():
    adapter, session, watch = PromptAdapter(), CountedSession(), Stopwatch()
    first = np.array([3, 4])

    def ask(ids):
        return adapter.strength(session, ids, watch)

    threads = [threading.Thread(target=ask, args=(first,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.runs == 1
    assert ask(first).tolist() == [3, 4]
    for i in range(MOST_KEPT - 1):
        ask(np.array([i]))
        ask(first)
    assert session.runs == MOST_KEPT
    ask(np.array([500])), ask(first)
    assert session.runs == MOST_KEPT + 1
    ask(np.array([0]))
    assert session.runs == MOST_KEPT + 2, "the one that was asked for longest ago has gone"


def test_the_time_of_the_adapter_is_a_stage_of_its_own(speech_lm):
    result = speech_lm.generate(sound(9000), "transcribe it", max_new_tokens=2)
    assert result.latency.stages["prompt"] > 0


def test_the_decoder_in_torch_follows_the_prompt(model, checkpoint, speech_lm, rows):
    """The one that studies run: its last layer, under the strength that it computes itself."""
    ids = ids_of(speech_lm, TEXTS[1])
    decoder = SpecDecoder(load_model(Checkpoint(checkpoint)).decoder).for_prompt(ids.adapter)
    with torch.no_grad():
        x = torch.cat([decoder.embed(ids.before), torch.from_numpy(rows), decoder.embed(ids.after)])
        for index in range(decoder.num_layers):
            x = decoder.block(index, x)
        found = model.llama.output(model.llama.norm(x))
        strength = model.llama.strength(ids.adapter.tolist())
        expected = model.llama.logits(
            ids.before.tolist(), torch.from_numpy(rows), ids.after.tolist(), strength
        )
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


def test_every_graph_is_valid(artifact):
    for path in artifact.glob("*.onnx"):
        check_graph(path)


def test_more_positions_are_recorded_and_no_fewer_are_taken(checkpoint, speech_lm, tmp_path, caplog):
    options = BuildOptions(PROFILES[:1], max_positions=900)
    manifest = build(checkpoint, tmp_path / "more", options)
    assert (manifest.decoder.max_positions, manifest.decoder.trained_positions) == (900, 300)
    assert any("positions 300 to 899 are extrapolated" in note for note in caplog.messages)
    assert speech_lm.manifest.decoder.trained_positions is None
    long = SpeechLM.load(tmp_path / "more", threads=1)
    samples = sound(16000 * 40)
    with pytest.raises(Exception, match="this model's 300 positions hold at most"):
        speech_lm.generate(samples, "hello", max_new_tokens=2)
    assert long.generate(samples, "hello", max_new_tokens=2).audio_rows == 500
    fewer = "the checkpoint has 300 by itself"
    for positions, message in ((300, fewer), (20, fewer), (2**24 + 1, "give at most 16777216")):
        with pytest.raises(CheckpointError, match=message):
            build(checkpoint, tmp_path / "others", replace(options, max_positions=positions))


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("text_config", "rope_interleaved", False, "rope_interleaved False is not supported"),
        ("text_config", "num_key_value_heads", 1, "one vector scales the LoRA of all four projections"),
        ("lora_config", "target_modules", ["wq"], r"target_modules \['wq'\] is not supported"),
        ("lora_config", "r", 5, "has shape"),
        ("prompt_adapter", "clamp_min", 4.0, "clamp_min 4 is above clamp_max 3"),
        ("prompt_adapter", "clamp_max", "3", "clamp_max is '3', a number is expected"),
        ("prompt_template", "right_text", 5, "right_text is 5, a text is expected"),
        ("prompt_template", "right_text", "no place", "holds {prompt} 0 times"),
        ("prompt_template", "left_token_ids", [1, 2], "take the tokenizer of this checkpoint"),
        ("prompt_template", "left_add_bos", "yes", "left_add_bos is 'yes', true or false is expected"),
        ("generation", "num_beams", 0, "num_beams"),
        ("generation", "begin_suppress_tokens", [5], "beside begin_suppress_tokens: give one of them"),
    ],
)
def test_settings_that_no_graph_can_follow_are_refused(checkpoint, tmp_path, section, key, value, message):
    other = tmp_path / "other"
    other.mkdir()
    for path in checkpoint.iterdir():
        (other / path.name).symlink_to(path)
    config = json.loads((other / "config.json").read_text())
    config[section][key] = value
    (other / "config.json").unlink()
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_model(Checkpoint(other))


def test_only_what_is_not_taken_is_named(checkpoint):
    (note,) = load_model(Checkpoint(checkpoint)).notes
    assert "not taken from the checkpoint: do_sample True, max_new_tokens_including_right_prompt 512" in note


def test_the_file_that_other_families_read_is_named(checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    (other / "generation_config.json").write_text('{"num_beams": 4}')
    model = load_model(Checkpoint(other))
    assert model.generation.num_beams == 1
    assert any("generation_config.json: not used: the search of this family" in it for it in model.notes)
