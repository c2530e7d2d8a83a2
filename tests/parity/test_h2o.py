"""h2o, whose caches lack the evicted rows, against models that keep every row and hide it behind a mask.

Rotary frequencies are powers of two here, so angles are exact, and that the caches hold their keys at other
positions cannot be excused by rounding.
"""

import shutil
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from fastadasp.export.pipeline import BuildOptions, build
from fastadasp.export.torch_reference import load_reference
from fastadasp.profiles import Profile
from fastadasp.profiles.schedule import removed
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.beam_search import SearchOptions, generate

from .conftest import FULL
from .models import forced_logits, reference_decoder, roughen

ATOL = 2e-4  # of logits whose scale is 10, in float32: full models get as close
HEAD_DIM, THETA = 16, 256.0  # frequencies 1, 1/2, 1/4, ...
LAYOUTS = ((4, 4), (4, 2), (6, 2), (4, 1))  # query heads, KV heads
STEPS = 6


@pytest.fixture
def random_model(tiny_checkpoint, tmp_path):
    """A random Qwen2-Audio of chosen sizes: its folder."""

    def make(layers, heads, kv_heads, seed):
        folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
        config = Qwen2AudioConfig.from_pretrained(folder).to_dict()
        config["text_config"] |= {
            "num_hidden_layers": layers,
            "layer_types": ["full_attention"] * layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "hidden_size": heads * HEAD_DIM,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
        }
        model = Qwen2AudioForConditionalGeneration(Qwen2AudioConfig.from_dict(config)).eval()
        assert model.get_decoder().rotary_emb.inv_freq.tolist() == [2.0**-i for i in range(HEAD_DIM // 2)]
        roughen(model, seed)
        model.save_pretrained(folder)
        return folder

    return make


@dataclass(frozen=True)
class Request:
    """A prompt, as `SpeechLM.decoder` takes it."""

    before: np.ndarray
    rows: np.ndarray
    after: np.ndarray


def request(rng, audio_rows, hidden_size):
    texts = (rng.integers(6, 250, size) for size in rng.integers(1, 8, 2))
    return Request(next(texts), rng.standard_normal((audio_rows, hidden_size), np.float32), next(texts))


@pytest.mark.parametrize("seed", range(16))
def test_logits_tokens_and_beams_equal_those_of_a_model_that_masks(random_model, tmp_path, seed):
    rng = np.random.default_rng(seed)
    layers, (heads, kv_heads) = int(rng.integers(1, 5)), LAYOUTS[seed % len(LAYOUTS)]
    ratio = Fraction(str(rng.choice(["2/7", "1/2", "9/10", "999/1000"])))
    start, with_bos = int(rng.integers(layers)), bool(rng.integers(2))
    profile = Profile("mine", "h2o", "constant", start, ratio=ratio, include_audio_bos=with_bos)
    folder = random_model(layers, heads, kv_heads, seed)
    build(folder, tmp_path / "artifact", BuildOptions((profile,), weights="copy"))
    ours, theirs = SpeechLM.load(tmp_path / "artifact", threads=1), load_reference(folder)
    resolved, vocab_size = ours.manifest.profiles["mine"], ours.manifest.decoder.dims.vocab_size
    for audio_rows in (1, 2, 3, int(rng.integers(4, 63)), int(rng.integers(65, 300))):
        prompt = request(rng, audio_rows, heads * HEAD_DIM)
        parts = prompt.before, prompt.rows, prompt.after

        def decoders(parts=parts):
            before, rows, after = parts
            yield reference_decoder(theirs, resolved, rows, before, after)
            yield ours.decoder("mine", before, rows, after)

        tokens = rng.integers(6, 250, STEPS)
        reference, mine = decoders()
        expected, found = (forced_logits(one, tokens, vocab_size) for one in (reference, mine))
        np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
        counts = resolved.token_counts(audio_rows + with_bos)
        text_rows = len(prompt.before) + len(prompt.after) - with_bos
        assert mine.cache.prefix_lengths == reference.prefix_lengths
        assert mine.cache.prefix_lengths == tuple(rows + text_rows for rows in counts.cached)
        options = SearchOptions(num_beams=4, num_return_sequences=4, max_new_tokens=STEPS)
        expected, found = (generate(one, options, vocab_size=vocab_size) for one in decoders())
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=ATOL)


@pytest.mark.parametrize(("heads", "kv_heads"), LAYOUTS)
def test_one_layer_equals_the_model_of_transformers_under_a_mask_by_head(
    random_model, tmp_path, heads, kv_heads
):
    """All of it in one call of the library: what it attends to decides, row by row, what its mask hides."""
    folder, ratio, rng = random_model(1, heads, kv_heads, 3), Fraction(3, 5), np.random.default_rng(heads)
    build(folder, tmp_path / "artifact", BuildOptions((Profile("h", "h2o", "constant", ratio=ratio),)))
    ours, theirs = SpeechLM.load(tmp_path / "artifact", threads=1), load_reference(folder)
    prompt, tokens = request(rng, 90, heads * HEAD_DIM), rng.integers(6, 250, STEPS)
    embed, before = theirs.get_input_embeddings(), len(prompt.before)
    parts = [embed(torch.as_tensor(ids)) for ids in (prompt.before, prompt.after, tokens)]
    x = torch.cat([parts[0], torch.as_tensor(prompt.rows), *parts[1:]])[None]
    prompt_rows = x.shape[1] - STEPS
    mask = torch.full((heads, x.shape[1], x.shape[1]), -torch.inf).triu(1)
    with torch.no_grad():
        attention = theirs(inputs_embeds=x[:, :prompt_rows], output_attentions=True).attentions[0][0]
        for group in torch.arange(heads).chunk(kv_heads):
            received = sum(attention[head, row] for head in group for row in range(prompt_rows))
            order = received[before : before + 90].argsort()
            gone = before + order[: removed(90, ratio)]
            for head in group:
                mask[head, prompt_rows:, gone] = -torch.inf
        expected = theirs(inputs_embeds=x, attention_mask=mask[None]).logits[0, prompt_rows - 1 :]
    vocab_size = ours.manifest.decoder.dims.vocab_size
    decoder = ours.decoder("h", prompt.before, prompt.rows, prompt.after)
    found = forced_logits(decoder, tokens, vocab_size)
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    assert decoder.cache.prefix_lengths == (prompt_rows - removed(90, ratio),)


def test_the_prefill_is_that_of_the_full_model_bit_by_bit(random_model, tmp_path):
    """Its scores, and the caches before the first layer that evicts."""
    folder = random_model(3, 4, 2, 1)
    profile = Profile("h", "h2o", "constant", 1, ratio=Fraction(1, 2))
    build(folder, tmp_path / "artifact", BuildOptions((FULL, profile)))
    model = SpeechLM.load(tmp_path / "artifact", threads=1)
    prompt, vocab_size = request(np.random.default_rng(0), 100, 64), 50
    full, shorter = (model.decoder(name, prompt.before, prompt.rows, prompt.after) for name in ("full", "h"))
    expected, found = full.start(vocab_size), shorter.start(vocab_size)
    assert found.logits.tobytes() == expected.logits.tobytes()
    assert found.ids.tolist() == expected.ids.tolist()
    for name in ("prefix_key.0", "prefix_value.0"):
        np.testing.assert_array_equal(
            *(np.asarray(one.cache.tensors[name]) for one in (full, shorter)), strict=True
        )
