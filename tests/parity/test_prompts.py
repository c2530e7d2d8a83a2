"""Prompts at the limits of what the graphs can take: what is refused, and what still agrees."""

import numpy as np
import pytest

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.prompt import PromptIds

from .models import AFTER, BEFORE, forced_logits, our_rows, reference_decoder, sound

NONE = np.empty(0, np.int64)
TOKENS = [17, 91, 203]


@pytest.mark.parametrize("profile", ["full", "weighted_merge-constant", "fastv_last_query-single"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(NONE, AFTER), (BEFORE, AFTER[:1]), (NONE, AFTER[:1]), (np.tile(BEFORE, 30), np.tile(AFTER, 30))],
    ids=["nothing before", "one after", "one in all", "long"],
)
def test_text_of_any_length_agrees_with_the_reference(model, speech_lm, vocab_size, profile, before, after):
    rows = our_rows(speech_lm, sound(9000))
    reference = reference_decoder(model, speech_lm.manifest.profiles[profile], rows, before, after)
    decoders = reference, speech_lm.decoder(profile, before, rows, after)
    expected, found = (forced_logits(decoder, TOKENS, vocab_size) for decoder in decoders)
    assert decoders[1].cache.prefix_lengths == reference.prefix_lengths
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_rows_without_the_attention_of_the_encoder_are_refused_where_it_is_taken(speech_lm):
    rows = our_rows(speech_lm, sound(9000))
    hidden = speech_lm.manifest.decoder.dims.hidden_size
    assert rows.shape[1] == hidden + 2
    speech_lm.decoder("full", BEFORE, rows[:, :hidden], AFTER).start(1)
    takes = rf"profile sa_map-input \(sa_map\) takes {hidden + 2}, 2 of which are the attention"
    with pytest.raises(RequestError, match=rf"rows of {hidden} numbers: {takes}"):
        speech_lm.decoder("sa_map-input", BEFORE, rows[:, :hidden], AFTER)
    with pytest.raises(RequestError, match=rf"rows of {hidden + 1} numbers: profile full .* or {hidden + 2}"):
        speech_lm.decoder("full", BEFORE, rows[:, : hidden + 1], AFTER)


def test_a_span_that_starts_before_the_prompt_is_refused(speech_lm):
    for prompt in (PromptIds(NONE, AFTER), "<|AUDIO|>hello"):
        with pytest.raises(RequestError, match=r"random_evict-with-bos.*include_audio_bos"):
            speech_lm.generate(sound(9000), prompt, profile="random_evict-with-bos")


@pytest.mark.parametrize("token", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_refused(speech_lm, vocab_size, token):
    with pytest.raises(RequestError, match=rf"token {token} is not one of this model's {vocab_size}"):
        speech_lm.generate(sound(9000), PromptIds(BEFORE, np.array([token])))


def test_ids_that_no_graph_takes_are_refused():
    with pytest.raises(RequestError, match="none follows the audio"):
        PromptIds(BEFORE, NONE)
    with pytest.raises(RequestError, match="int32"):
        PromptIds(BEFORE.astype(np.int32), AFTER)
    with pytest.raises(RequestError, match=r"\(1, 4\)"):
        PromptIds(BEFORE[None], AFTER)
