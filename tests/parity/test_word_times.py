"""Where the word heads look, against the torch reference; and words alone, together and streamed."""

from functools import partial

import numpy as np
import pytest

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import RequestError
from fastadasp.profiles.signature import WordHeads
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.prompt import PromptIds

from .conftest import EXTREMES, FULL, every_method_and_schedule
from .models import AFTER, BEFORE, our_rows, reference_decoder, sound

METHODS = ("weighted_merge-constant", "fastv-single", "group_select-input")
PROFILES = (FULL, *(each for each in every_method_and_schedule() if each.name in METHODS), EXTREMES[1])
H2O = next(each for each in every_method_and_schedule() if each.name == "h2o-constant")
CLIP, OTHER = 9000, 30000
TOLD = (WordHeads(0, (1,)), WordHeads(2, (0, 3)), WordHeads(3, (2, 1)))
ASKED = {"max_new_tokens": 5, "no_repeat_ngram_size": 1}


@pytest.fixture(scope="module", params=TOLD, ids=lambda told: f"layer {told.layer}")
def telling(request, checkpoint, tmp_path_factory):
    """A model whose prefills and steps tell where heads of a first, a middle or the last layer look."""
    folder = tmp_path_factory.mktemp("words") / "artifact"
    build(checkpoint, folder, BuildOptions(PROFILES, weights="copy", word_heads=request.param))
    return SpeechLM.load(folder, threads=1)


@pytest.fixture
def seen(model):
    """By layer what the last rows of the reference attend to, (beams, heads, cached rows)."""
    found = {}

    def keep(layer, _module, _inputs, output):
        found[layer] = output[1][:, :, -1].numpy()

    layers = enumerate(model.get_decoder().layers)
    handles = [each.self_attn.register_forward_hook(partial(keep, layer)) for layer, each in layers]
    yield found
    for handle in handles:
        handle.remove()


def looks(told, seen, prefix):
    """Of what was seen: the shares of the prompt alone, as a mean over the heads."""
    shares = seen[told.layer][:, list(told.heads), :prefix]
    return (shares / shares.sum(-1, keepdims=True)).mean(1)


@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_heads_look_where_those_of_the_reference_do(telling, model, seen, profile):
    told = telling.manifest.decoder.word_heads
    rows = our_rows(telling, sound(CLIP))
    reference = reference_decoder(model, telling.manifest.profiles[profile], rows)
    ours = telling.decoder(profile, BEFORE, rows, AFTER)
    top = ours.start(4)
    reference.start(1)
    prefix = reference.prefix_lengths[told.layer]
    np.testing.assert_allclose(top.looks[:, :prefix], looks(told, seen, prefix), atol=2e-5)
    for tokens, parents in (([7, 9, 11], [0, 0, 0]), ([5, 3], [2, 0])):
        top = ours.step(np.array(tokens), np.array(parents), 4)
        reference.step(np.array(tokens), np.array(parents), 1)
        np.testing.assert_allclose(top.looks[:, :prefix], looks(told, seen, prefix), atol=2e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_words_are_the_same_alone_together_and_streamed(telling, beams):
    own, other = (sound(size, seed=size) for size in (CLIP, OTHER))
    ask = partial(telling.generate, prompt=PromptIds(BEFORE, AFTER), num_beams=beams, **ASKED)
    alone = [ask(own).words, ask(other).words]
    together = [
        telling.submit(clip, PromptIds(BEFORE, AFTER), num_beams=beams, **ASKED) for clip in (own, other)
    ]
    assert [each.result().words for each in together] == alone
    if beams == 1:
        stream = telling.stream(own, PromptIds(BEFORE, AFTER), **ASKED)
        list(stream)
        assert stream.result.words == alone[0]


def test_words_are_those_of_the_text_and_within_the_audio(telling):
    for profile in PROFILES:
        result = telling.generate(sound(CLIP), PromptIds(BEFORE, AFTER), profile=profile.name, **ASKED)
        assert [word.text for word in result.words] == result.text.split()
        assert all(0 <= word.start < result.audio_seconds for word in result.words)


def test_no_time_in_audio_longer_than_what_was_measured_is_told_with_confidence(telling, monkeypatch):
    ask = partial(telling.generate, sound(CLIP), PromptIds(BEFORE, AFTER), **ASKED)
    monkeypatch.setattr("fastadasp.runtime.requests.answer.LEAST_SHARE", 0.0)
    assert any(word.confident for word in ask().words)
    monkeypatch.setattr("fastadasp.runtime.requests.answer.MEASURED_SECONDS", CLIP / 16000 - 0.01)
    assert not any(word.confident for word in ask().words)


def test_telling_changes_no_bit_of_an_answer(telling, speech_lm):
    for name in (profile.name for profile in PROFILES):
        asked = {"profile": name, "num_beams": 3, **ASKED}
        told, plain = (
            each.generate(sound(CLIP), PromptIds(BEFORE, AFTER), **asked) for each in (telling, speech_lm)
        )
        assert plain.words is None
        assert told.hypotheses == plain.hypotheses


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (WordHeads(4, (0,)), "there is no layer 4; give one of 0 to 3"),
        (WordHeads(0, (0, 4)), "there is no head 4 in a layer; give those of 0 to 3"),
        (WordHeads(0, ()), "there is no head; give at least one"),
        (WordHeads(0, (1, 1)), "head 1 is there twice; give each once"),
    ],
)
def test_heads_that_there_are_not_are_refused(checkpoint, tmp_path, told, fault):
    with pytest.raises(RequestError, match=fault):
        build(checkpoint, tmp_path / "artifact", BuildOptions((FULL,), word_heads=told))


def test_a_profile_whose_heads_keep_rows_of_their_own_is_refused(checkpoint, tmp_path):
    with pytest.raises(RequestError, match="word_heads beside profile h2o-constant"):
        build(checkpoint, tmp_path / "artifact", BuildOptions((FULL, H2O), word_heads=TOLD[0]))


@pytest.mark.parametrize("other", [{"targets": ("openvino",)}, {"targets": ("onnxruntime", "openvino")}])
def test_other_targets_are_refused(other):
    with pytest.raises(RequestError, match="word_heads: graphs for onnxruntime alone"):
        BuildOptions((FULL,), word_heads=TOLD[0], **other)
