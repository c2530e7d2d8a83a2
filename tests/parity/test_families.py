"""Every family against transformers: `generate` for the unreduced model, the torch reference for others."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model, reference_of
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.errors import AudioError
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.options import ResolvedSearch
from tiny_families import TINY, WINDOW, embedded

from .models import codec, forced_logits, our_rows, reference_decoder, sound
from .test_transformers import assert_same, transformers_answers

PROFILES = (
    Profile("full", "full"),
    Profile("merge", "weighted_merge", "decay", 0, ratio=Fraction(2, 7)),
    Profile("evict", "fastv", "constant", 1, ratio=Fraction(1, 3), positions="kept"),
    Profile("cache", "h2o", "constant", 0, ratio=Fraction(1, 3)),
)
SAMPLES = {"short": 9000, "a window": WINDOW, "two windows": WINDOW + 9001, "three windows": 3 * WINDOW}
PROMPT = "what is said?"
ATOL = 3e-4  # of logits whose scale is 10, in float32


@pytest.fixture(scope="module", params=TINY)
def family(request, tmp_path_factory):
    """The name, the checkpoint, its model in transformers, and its artifact."""
    folder = tmp_path_factory.mktemp(request.param)
    TINY[request.param].save(folder / "checkpoint")
    build(folder / "checkpoint", folder / "artifact", BuildOptions(PROFILES, weights="copy"))
    model = load_reference(folder / "checkpoint")
    model.generation_config = GenerationConfig()
    with SpeechLM.load(folder / "artifact", threads=1) as speech_lm:
        yield request.param, folder / "checkpoint", model, speech_lm


@pytest.mark.parametrize("length", SAMPLES)
def test_answers_and_scores_equal_those_of_generate(family, length):
    name, folder, model, speech_lm = family
    samples = sound(SAMPLES[length], seed=len(length))
    inputs = TINY[name].inputs(model, folder, samples, PROMPT)
    for num_beams in (1, 5):
        options = ResolvedSearch(
            num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=8, eos_token_ids=()
        )
        found = speech_lm.generate(samples, PROMPT, profile="full", search=options)
        assert found.prefix_lengths[0] == inputs["input_ids"].shape[1]
        mixed_up = TINY[name].in_windows and num_beams > 1 and len(samples) > WINDOW
        asked = embedded(model, inputs) if mixed_up else inputs
        assert_same(found.hypotheses, transformers_answers(model, asked, options), options)


@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES[1:]])
def test_reduced_profiles_equal_the_torch_reference(family, profile):
    _, _, model, speech_lm = family
    vocab_size = speech_lm.manifest.decoder.dims.vocab_size
    ids, rows = codec(speech_lm).encode(PROMPT), our_rows(speech_lm, sound(WINDOW + 9001))
    resolved, tokens = speech_lm.manifest.profiles[profile], [17, 91, 203]
    theirs = reference_decoder(model, resolved, rows, ids.before, ids.after)
    mine = speech_lm.decoder(profile, ids.before, rows, ids.after)
    expected, found = (forced_logits(decoder, tokens, vocab_size) for decoder in (theirs, mine))
    assert mine.cache.prefix_lengths == theirs.prefix_lengths
    assert theirs.prefix_lengths[-1] < len(rows) + ids.num_text_rows
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


def test_the_text_around_the_audio_is_that_of_the_processor(family):
    name, folder, model, speech_lm = family
    rate = speech_lm.manifest.front_end.log_mel.sample_rate
    ids = codec(speech_lm).encode(PROMPT).about(WINDOW / rate)
    inputs = TINY[name].inputs(model, folder, sound(WINDOW), PROMPT)
    expected = inputs["input_ids"][0].tolist()
    before, after = ids.before.tolist(), ids.after.tolist()
    assert expected[: len(before)] == before
    assert expected[len(expected) - len(after) :] == after
    audio = set(expected[len(before) : len(expected) - len(after)])
    assert audio == set(speech_lm.manifest.prompt.audio_token_ids)


def test_audio_beyond_what_the_model_hears_is_refused(family):
    """transformers drops it, where the processor has a limit; positions are another."""
    _, _, _, speech_lm = family
    longest = speech_lm.manifest.front_end.longest_samples
    if longest is None:
        pytest.skip("its processor has no limit of its own")
    assert speech_lm.generate(sound(longest), PROMPT, max_new_tokens=1).prefix_lengths
    with pytest.raises(AudioError, match=r"are more than this model hears at once, \d+\.\d s: cut the audio"):
        speech_lm.generate(sound(longest + 1), PROMPT, max_new_tokens=1)


def test_the_modules_of_the_reference_are_where_its_names_say(family):
    """So that `check` names the place of a fault."""
    name, folder, model, _ = family
    reference = reference_of(name)
    norms = {"attn/q_norm", "attn/k_norm"}  # which few decoders have
    absent = norms if load_model(Checkpoint(folder)).decoder.layers[0].query_norm is None else set()
    for modules in (reference.encoder, reference.decoder):
        for part in {*modules.parts} - absent:
            assert isinstance(model.get_submodule(modules.part(part, 0)), torch.nn.Module)
        assert isinstance(model.get_submodule(modules.final_norm), torch.nn.Module)
