"""A text is scored beside a search: what it is given, and what the search finds, are those of each alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from demo_files import DEMO
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import LongAudioError, RequestError
from fastadasp.profiles.profile import load_profile
from fastadasp.profiles.signature import WordHeads
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.drive import drive, new_search
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.decoding.scoring_search import ForcedText, ScoringSearch
from fastadasp.runtime.decoding.search import TopTokens

CLIP = DEMO / "clips" / "dates-01.flac"
PROMPT, REDUCED = "<asr>", "dense-constant-50"
WRONG = "one two three four five six seven eight nine ten eleven twelve"
WORDS = 5
END = 4


class Chain:
    """A decoder whose next token depends on the last one alone: log-probabilities (from, to)."""

    def __init__(self) -> None:
        scores = np.random.default_rng(3).standard_normal((WORDS, WORDS)).astype(np.float32)
        self.scores = scores - np.log(np.exp(scores).sum(1, keepdims=True))

    def start(self, k: int) -> TopTokens:
        return self._top(np.array([0]), k)

    def step(self, tokens: np.ndarray, parents: np.ndarray, k: int) -> TopTokens:
        return self._top(tokens, k)

    def _top(self, last: np.ndarray, k: int) -> TopTokens:
        scores = self.scores[last] + 7  # raw logits
        ids = np.argsort(-scores, 1)[:, :k]
        return TopTokens(np.take_along_axis(scores, ids, 1), ids, np.full(len(last), 7, np.float32))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("text", [(1,), (1, 2, 3, 3, 2, 1, 2, 3, 1)])
def test_the_score_is_the_sum_along_the_text_and_the_answer_that_of_the_search_alone(beams, text):
    options = SearchOptions(num_beams=beams, max_new_tokens=4, eos_token_ids=(END,))
    forced, decoder = ForcedText([(END - 1, 0), text], (END,)), Chain()
    decoder.scores[0, END - 1] = -9.0  # so the other way to spell it counts
    alone = drive(new_search(options, WORDS), decoder)
    search = ScoringSearch(new_search(options, WORDS), forced, WORDS)
    assert [each.tokens for each in drive(search, decoder)] == [each.tokens for each in alone]
    path = (0, *text, END)
    expected = sum(decoder.scores[step] for step in pairwise(path))
    assert forced.score.tokens == len(text) + 1
    assert forced.score.log_probability == pytest.approx(expected, rel=1e-5)


def test_a_text_may_end_with_any_of_the_end_tokens():
    text, ends, decoder = (1, 2), (END - 1, END), Chain()
    forced = ForcedText([text], ends)
    options = SearchOptions(max_new_tokens=4, eos_token_ids=ends)
    drive(ScoringSearch(new_search(options, WORDS), forced, WORDS), decoder)
    along = decoder.scores[0, 1] + decoder.scores[1, 2]
    expected = along + np.logaddexp(decoder.scores[2, END - 1], decoder.scores[2, END])
    assert forced.score.tokens == len(text) + 1
    assert forced.score.log_probability == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechLM]:
    folder: Path = tmp_path_factory.mktemp("scored") / "artifact"
    profiles = tuple(map(load_profile, ("full", REDUCED)))
    build(DEMO / "model", folder, BuildOptions(profiles, word_heads=WordHeads(7, (0, 1))))
    with SpeechLM.load(folder, threads=1, max_batch=4) as loaded:
        yield loaded


def test_the_answer_itself_has_the_score_of_its_hypothesis(model):
    for profile in model.profiles:
        alone = model.generate(CLIP, PROMPT, profile=profile)
        found = model.generate(CLIP, PROMPT, profile=profile, scored_text=alone.text)
        assert found.text == alone.text
        assert alone.scored_text is None
        assert -found.scored_text.loss == pytest.approx(alone.hypotheses[0].score, abs=1e-5)
        assert found.scored_text.tokens == alone.latency.output_tokens


@pytest.mark.parametrize("beams", [1, 3])
def test_words_begin_where_they_do_without_a_text_beside_them(model, beams):
    for profile in model.profiles:
        alone = model.generate(CLIP, PROMPT, profile=profile, num_beams=beams)
        found = model.generate(CLIP, PROMPT, profile=profile, num_beams=beams, scored_text=WRONG)
        assert [word.text for word in found.words] == [word.text for word in alone.words]
        starts = [[word.start for word in result.words] for result in (found, alone)]
        np.testing.assert_allclose(*starts, atol=1e-6)


def test_another_text_is_scored_as_if_it_were_fed_alone_and_in_shared_steps(model):
    found = model.generate(CLIP, PROMPT, profile=REDUCED, num_beams=3, scored_text=WRONG)
    asked = [model.submit(CLIP, PROMPT, profile=REDUCED, scored_text=WRONG) for _ in range(3)]
    assert found.scored_text.loss > 2
    for each in asked:
        assert each.result().scored_text.loss == pytest.approx(found.scored_text.loss, abs=1e-4)
    codec, audio = model._loaded.codec, model.encode(CLIP)
    ids = codec.encode(PROMPT)
    decoder = model.decoder(REDUCED, ids.before, audio.rows, ids.after)
    vocabulary = model.manifest.decoder.dims.vocab_size
    top, total = decoder.start(vocabulary), 0.0
    for token in (*codec.answer_ids(WRONG).tolist(), model.manifest.decoder.eos_token_ids[0]):
        total += float(top.logits[0][top.ids[0] == token][0] - top.log_sum_exp[0])
        top = decoder.step(np.array([token]), np.array([0]), vocabulary)
    assert found.scored_text.log_probability == pytest.approx(total, abs=1e-3)


def test_a_text_is_scored_beside_as_many_beams_as_there_may_be_in_shared_steps(model):
    asked = {"num_beams": 128, "max_new_tokens": 2, "scored_text": WRONG}
    alone = model.generate(CLIP, PROMPT, profile=REDUCED, **asked)
    shared = model.submit(CLIP, PROMPT, profile=REDUCED, **asked).result()
    assert shared.text == alone.text
    assert shared.scored_text.loss == pytest.approx(alone.scored_text.loss, abs=1e-4)


@pytest.mark.parametrize("text", ["", "  ", 5])
def test_what_is_no_text_is_refused_by_name(model, text):
    with pytest.raises(RequestError, match="scored_text"):
        model.generate(CLIP, PROMPT, scored_text=text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("six ümlaut", "no token for some of it"), ("zero " * 8300, "8300 tokens leave no room for audio")],
    ids=["unknown", "long"],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(model, text, fault):
    with pytest.raises(RequestError, match=f"scored_text .*{fault}"):
        model.generate(CLIP, PROMPT, scored_text=text)


def test_audio_beside_a_text_that_is_longer_than_the_answer_may_be_is_refused_by_its_name(model):
    tokens = model.manifest.decoder.max_positions - 50
    with pytest.raises(LongAudioError, match=rf"and scored_text of {tokens + 1} tokens .* score a shorter"):
        model.generate(CLIP, PROMPT, scored_text="zero " * tokens)
