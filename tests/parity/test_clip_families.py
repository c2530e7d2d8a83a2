"""Families whose encoder hears a whole clip, against `generate` of transformers and the torch reference."""

from contextlib import contextmanager
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from transformers import GenerationConfig

from clip_checkpoints import SAVE, clip_tensors, save_granite_speech
from fastadasp.export.model.families.family import reference_of
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import ReferenceDecoder, load_reference
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.audio.features import feature_windows
from fastadasp.runtime.decoding.options import ResolvedSearch
from fastadasp.runtime.prompt import PromptIds

from .models import AFTER, BEFORE, answers, our_rows, sound
from .test_transformers import assert_same, transformers_answers

SECONDS = (0.05, 0.4, 1.0, 2.21, 4.0)
PROFILES = (
    Profile("full", "full"),
    Profile("merged", "weighted_merge", "constant", 1, ratio=Fraction(1, 3)),
    Profile("paired", "a_tome", "constant", 0, ratio=Fraction(1, 4), positions="kept"),
    Profile("dropped", "fastv", "single", 2, ratio=Fraction(1, 2)),
    Profile("forgotten", "h2o", "constant", 1, ratio=Fraction(1, 3)),
)


class Tried:
    """One family: a rough checkpoint, the model in transformers, and the artifact."""

    def __init__(self, family, folder):
        self.family, self.checkpoint = family, folder / "checkpoint"
        save = {**SAVE, "granite_speech": partial(save_granite_speech, logits_scaling=2.0)}[family]
        save(self.checkpoint)
        build(self.checkpoint, folder / "artifact", BuildOptions(PROFILES, weights="copy"))
        self.speech_lm = SpeechLM.load(folder / "artifact", threads=1)
        self.model = load_reference(self.checkpoint)
        self.model.generation_config = GenerationConfig()

    def samples(self, seconds, seed=0):
        return sound(round(seconds * self.speech_lm.manifest.front_end.log_mel.sample_rate), seed)

    def reference_rows(self, samples):
        """The rows that transformers makes of a clip."""
        window = next(feature_windows(samples, self.speech_lm.manifest.front_end.log_mel))
        return reference_of(self.family).encode_window(self.model, window.mel, window.encoder_rows)


@pytest.fixture(scope="module", params=list(SAVE))
def tried(request, tmp_path_factory):
    return Tried(request.param, tmp_path_factory.mktemp(request.param))


def inputs_of(tried, samples):
    """What `generate` takes: a placeholder for each row of audio, and the features of the clip."""
    front_end = tried.speech_lm.manifest.front_end
    return clip_tensors(tried.family, front_end, samples, BEFORE.tolist(), AFTER.tolist())


@contextmanager
def logits_as_trained(model):
    """Divide the logits by the decoder's `logits_scaling`, which transformers' speech class leaves out.

    Its `GraniteForCausalLM` divides them, and so did the speech class as long as it was built of that.
    """
    divisor = getattr(model.config.text_config, "logits_scaling", 1.0)
    handle = model.lm_head.register_forward_hook(lambda module, inputs, logits: logits / divisor)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_clip_gives_the_rows_of_transformers(tried, seconds):
    samples = tried.samples(seconds)
    expected = tried.reference_rows(samples)
    assert len(expected) == tried.speech_lm.manifest.front_end.audio_tokens(len(samples))
    np.testing.assert_allclose(our_rows(tried.speech_lm, samples), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_beams", [1, 5])
@pytest.mark.parametrize("seconds", SECONDS)
def test_answers_and_scores_equal_those_of_generate(tried, seconds, num_beams):
    samples = tried.samples(seconds, seed=round(10 * seconds))
    options = ResolvedSearch(
        num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=10, eos_token_ids=()
    )
    with logits_as_trained(tried.model):
        expected = transformers_answers(tried.model, inputs_of(tried, samples), options)
    found = tried.speech_lm.generate(samples, PromptIds(BEFORE, AFTER), profile="full", search=options)
    assert_same(found.hypotheses, expected, options)


def test_the_answer_depends_on_the_audio(tried):
    found = {
        tried.speech_lm.generate(
            tried.samples(2.0, seed), PromptIds(BEFORE, AFTER), profile="full", max_new_tokens=10
        )
        .hypotheses[0]
        .tokens
        for seed in range(4)
    }
    assert len(found) > 1


@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES if profile.name != "full"])
@pytest.mark.parametrize("seconds", [2.21, 4.0])
def test_reduced_profiles_equal_the_torch_reference(tried, profile, seconds):
    samples, manifest = tried.samples(seconds, seed=3), tried.speech_lm.manifest
    options = ResolvedSearch(num_beams=5, num_return_sequences=5, max_new_tokens=8, eos_token_ids=())
    decoder = ReferenceDecoder(
        tried.model, manifest.profiles[profile], BEFORE, tried.reference_rows(samples), AFTER
    )
    expected = answers(decoder, options, manifest.decoder.dims.vocab_size)
    found = tried.speech_lm.generate(samples, PromptIds(BEFORE, AFTER), profile=profile, search=options)
    assert found.prefix_lengths == decoder.prefix_lengths
    assert min(found.prefix_lengths) < max(found.prefix_lengths) or profile == "paired"
    assert [it.tokens for it in found.hypotheses] == [it.tokens for it in expected]
    assert [it.score for it in found.hypotheses] == pytest.approx([it.score for it in expected], abs=1e-4)
