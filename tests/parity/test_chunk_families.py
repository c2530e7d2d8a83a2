"""Families whose encoders cut audio into pieces, in every layout and over many pieces, against transformers.

The other side is transformers alone: its feature extractors as its processors call them, its models.
"""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, GenerationConfig

from chunk_checkpoints import FAMILY, SAVE, TOKENS
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.options import ResolvedSearch
from fastadasp.runtime.prompt import PromptIds

from .models import AFTER, BEFORE, SAMPLE_RATE, our_rows, sound
from .test_transformers import assert_same, transformers_answers

SECONDS = {
    "qwen2_5_omni": (0.06, 0.4, 1.237, 31.3),
    "qwen3_asr": (0.001, 0.7, 5.377, 33.3),
    "glmasr": (0.08, 2.0, 5.377),
}
"""Less than a piece, whole ones, several and a part; and more than the encoder is given at once."""

CASES = [(layout, seconds) for layout in SAVE for seconds in SECONDS[FAMILY[layout]]]


class Tried:
    """One layout of a family: a rough checkpoint, the model in transformers, and the artifact."""

    def __init__(self, layout, folder):
        self.family, checkpoint = FAMILY[layout], folder / "checkpoint"
        SAVE[layout](checkpoint)
        build(checkpoint, folder / "artifact", BuildOptions((Profile("full", "full"),), weights="copy"))
        self.speech_lm = SpeechLM.load(folder / "artifact", threads=1)
        self.model = load_reference(checkpoint)
        self.model.generation_config = GenerationConfig()
        self.extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
        tokenizer = self.speech_lm.manifest.prompt
        self.audio_token = tokenizer.audio_token_ids[0]

    def features(self, samples):
        """What the family's processor makes of a clip, as the model takes it."""
        least = 8000 if self.family == "qwen3_asr" else 0  # the first processor's own rule
        pieces, padding = [np.pad(samples, (0, max(0, least - len(samples))))], True
        if self.family == "qwen2_5_omni":
            padding = "max_length"
        elif self.family == "glmasr":
            size = self.extractor.n_samples
            pieces, padding = [samples[at : at + size] for at in range(0, len(samples), size)], "max_length"
        found = self.extractor(
            pieces,
            sampling_rate=SAMPLE_RATE,
            return_attention_mask=True,
            return_tensors="pt",
            padding=padding,
            truncation=False,
        )
        mel, mask = found["input_features"], found["attention_mask"]
        if self.family == "qwen2_5_omni":
            return {"input_features": mel, "feature_attention_mask": mask}
        if missing := -mel.shape[-1] % 100:  # another extractor than transformers' own fills chunks up not
            mel, mask = (torch.nn.functional.pad(it, (0, missing)) for it in (mel, mask))
        return {"input_features": mel, "input_features_mask": mask}

    def rows(self, samples):
        """The rows that transformers makes of a clip."""
        with torch.no_grad():
            found = self.model.model.get_audio_features(**self.features(samples))
        return found.pooler_output.numpy()

    def inputs(self, samples):
        """What `generate` takes: a placeholder for each row of audio, and the features of the clip.

        Or rows, where these come from several windows: for beams, transformers would mix their windows up.
        """
        rows, features = self.rows(samples), self.features(samples)
        count = len(rows)
        if len(features["input_features"]) > 1:
            embed = self.model.get_input_embeddings()
            before, after = (embed(torch.as_tensor(ids)).detach() for ids in (BEFORE, AFTER))
            prompt = torch.cat([before, torch.as_tensor(rows), after])[None]
            return {"inputs_embeds": prompt, "attention_mask": torch.ones(prompt.shape[:2])}
        ids = torch.tensor([[*BEFORE.tolist(), *[self.audio_token] * count, *AFTER.tolist()]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **features}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """By layout, each made when it is asked for."""
    made = {}

    def of(layout):
        if layout not in made:
            made[layout] = Tried(layout, tmp_path_factory.mktemp(layout))
        return made[layout]

    return of


def clip(seconds, seed=1):
    return sound(max(1, round(seconds * SAMPLE_RATE)), seed)


@pytest.mark.parametrize(("layout", "seconds"), CASES)
def test_a_clip_gives_the_rows_of_transformers(tried, layout, seconds):
    it, samples = tried(layout), clip(seconds)
    expected = it.rows(samples)
    assert len(expected) == it.speech_lm.manifest.front_end.audio_tokens(len(samples))
    np.testing.assert_allclose(our_rows(it.speech_lm, samples), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_beams", [1, 5])
@pytest.mark.parametrize(("layout", "seconds"), CASES)
def test_answers_and_scores_equal_those_of_generate(tried, layout, seconds, num_beams):
    it, samples = tried(layout), clip(seconds, seed=round(10 * seconds))
    options = ResolvedSearch(
        num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=10, eos_token_ids=()
    )
    expected = transformers_answers(it.model, it.inputs(samples), options)
    found = it.speech_lm.generate(samples, PromptIds(BEFORE, AFTER), profile="full", search=options)
    assert_same(found.hypotheses, expected, options)


@pytest.mark.parametrize("layout", ["omni", "qwen3_asr", "glmasr"])
def test_the_answer_depends_on_the_audio(tried, layout):
    speech_lm, prompt = tried(layout).speech_lm, PromptIds(BEFORE, AFTER)
    found = {
        speech_lm.generate(clip(2, seed), prompt, profile="full", max_new_tokens=10).hypotheses[0].tokens
        for seed in range(4)
    }
    assert len(found) > 1


def test_every_family_has_its_tokens():
    assert set(TOKENS) == set(SECONDS) == set(FAMILY.values())
