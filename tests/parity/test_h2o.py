"""h2o, whose caches lack the evicted rows, against models that keep every row and hide it behind a mask.

Rotary frequencies are powers of two here, so angles are exact, and that the caches hold their keys at other
positions cannot be excused by rounding.
"""

import shutil
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles import Profile
from fastadasp.profiles import signature as sig
from fastadasp.profiles.schedule import removed
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.options import SearchOptions

from .conftest import FULL
from .models import answers, forced_logits, reference_decoder, roughen

ATOL = 2e-4  # of logits whose scale is 10, in float32: full models get as close
HEAD_DIM, THETA = 16, 256.0  # frequencies 1, 1/2, 1/4, ...
LAYOUTS = ((4, 4), (4, 2), (6, 2), (4, 1))  # query heads, KV heads
RATIOS = ("2/7", "1/2", "9/10", "999/1000")
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


def prompt_of(rng, audio_rows, hidden_size):
    """Random ids before the audio, audio rows, ids after it."""
    before, after = (rng.integers(6, 250, size) for size in rng.integers(1, 8, 2))
    return before, rng.standard_normal((audio_rows, hidden_size), np.float32), after


@dataclass(frozen=True)
class Pair:
    """A random h2o profile of a random model: as an artifact, and in torch."""

    artifact: SpeechLM
    model: Any
    rng: np.random.Generator

    @property
    def resolved(self):
        return self.artifact.manifest.profiles["mine"]

    @property
    def dims(self):
        return self.artifact.manifest.decoder.dims

    def decoders(self, before, rows, after):
        """Fresh ones over one prompt: the reference, and ours."""
        reference = reference_decoder(self.model, self.resolved, rows, before, after)
        return reference, self.artifact.decoder("mine", before, rows, after)


@pytest.fixture(params=range(16))
def pair(request, random_model, tmp_path):
    """Every head layout with spans, layers, start layers and ratios of all sizes, drawn from a seed."""
    rng = np.random.default_rng(request.param)
    layers, (heads, kv_heads) = int(rng.integers(1, 5)), LAYOUTS[request.param % len(LAYOUTS)]
    folder = random_model(layers, heads, kv_heads, request.param)
    ratio, start = Fraction(str(rng.choice(RATIOS))), int(rng.integers(layers))
    with_bos = bool(rng.integers(2))
    profile = Profile("mine", "h2o", "constant", start, ratio=ratio, include_audio_bos=with_bos)
    build(folder, tmp_path / "artifact", BuildOptions((profile,)))
    return Pair(SpeechLM.load(tmp_path / "artifact", threads=1), load_reference(folder), rng)


def test_lengths_logits_and_beams_equal_those_of_a_model_that_masks(pair):
    rng, vocab_size, hidden_size = pair.rng, pair.dims.vocab_size, pair.dims.hidden_size
    extra = int(pair.resolved.profile.include_audio_bos)
    options = SearchOptions(num_beams=4, num_return_sequences=4, max_new_tokens=STEPS)
    for audio_rows in (1, 2, 3, int(rng.integers(4, 63)), int(rng.integers(65, 300))):
        prompt, tokens = prompt_of(rng, audio_rows, hidden_size), rng.integers(6, 250, STEPS)
        theirs, mine = pair.decoders(*prompt)
        expected, found = (forced_logits(one, tokens, vocab_size) for one in (theirs, mine))
        np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
        counts, text_rows = pair.resolved.token_counts(audio_rows + extra), len(prompt[0]) + len(prompt[2])
        assert mine.cache.prefix_lengths == tuple(n + text_rows - extra for n in counts.cached)
        assert mine.cache.prefix_lengths == theirs.prefix_lengths
        expected, found = (answers(one, options, vocab_size) for one in pair.decoders(*prompt))
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=ATOL)


@pytest.mark.parametrize(("heads", "kv_heads"), LAYOUTS)
def test_one_layer_equals_the_model_of_transformers_under_a_mask_by_head(
    random_model, tmp_path, heads, kv_heads
):
    """All of it in one call of the library: what it attends to decides, head by head, what its mask hides."""
    folder, ratio, rng = random_model(1, heads, kv_heads, 3), Fraction(3, 5), np.random.default_rng(heads)
    build(folder, tmp_path / "artifact", BuildOptions((Profile("h", "h2o", "constant", ratio=ratio),)))
    ours, theirs = SpeechLM.load(tmp_path / "artifact", threads=1), load_reference(folder)
    before, rows, after = prompt_of(rng, 90, heads * HEAD_DIM)
    tokens, embed = rng.integers(6, 250, STEPS), theirs.get_input_embeddings()
    texts = [embed(torch.as_tensor(ids)) for ids in (before, after, tokens)]
    x = torch.cat([texts[0], torch.as_tensor(rows), *texts[1:]])[None]
    prompt_rows, count = x.shape[1] - STEPS, removed(90, ratio)
    mask = torch.full((heads, x.shape[1], x.shape[1]), -torch.inf).triu(1)
    with torch.no_grad():
        attention = theirs(inputs_embeds=x[:, :prompt_rows], output_attentions=True).attentions[0][0]
        for group in torch.arange(heads).chunk(kv_heads):
            received = attention[group].sum((0, 1))[len(before) : len(before) + 90]
            for head in group:
                mask[head, prompt_rows:, len(before) + received.argsort()[:count]] = -torch.inf
        expected = theirs(inputs_embeds=x, attention_mask=mask[None]).logits[0, prompt_rows - 1 :]
    decoder = ours.decoder("h", before, rows, after)
    found = forced_logits(decoder, tokens, ours.manifest.decoder.dims.vocab_size)
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    assert decoder.cache.prefix_lengths == (prompt_rows - count,)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_prefill_is_that_of_the_full_model_bit_by_bit(random_model, tmp_path, quantize):
    """Its scores, and the caches before the first layer that evicts."""
    folder = random_model(3, 4, 2, 1)
    profile = Profile("h", "h2o", "constant", 1, ratio=Fraction(1, 2))
    build(folder, tmp_path / "artifact", BuildOptions((FULL, profile), quantize=quantize))
    model = SpeechLM.load(tmp_path / "artifact", threads=1)
    prompt = prompt_of(np.random.default_rng(0), 100, 4 * HEAD_DIM)
    full, shorter = (model.decoder(name, *prompt) for name in ("full", "h"))
    expected, found = full.start(50), shorter.start(50)
    assert found.logits.tobytes() == expected.logits.tobytes()
    assert found.ids.tolist() == expected.ids.tolist()
    feeds = dict(zip((sig.PREFIX_IDS, sig.AUDIO_EMBEDS, sig.SUFFIX_IDS), prompt, strict=True))
    ours, theirs = (
        model._loaded.sessions.prefill(name).run({**feeds, sig.NUM_CANDIDATES: np.array([50])})
        for name in ("h", "full")
    )
    for name in ("prefix_key.0", "prefix_value.0"):
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())
