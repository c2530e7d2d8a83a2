"""Maps of rows of every method against the torch reference: which rows of the prompt each row stands for."""

import numpy as np
import pytest

from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import RequestError
from fastadasp.profiles.methods import METHODS
from fastadasp.profiles.schedule import BEFORE_LAYERS
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.alignment.row_map import prompt_rows
from fastadasp.runtime.prompt import PromptIds
from fastadasp.runtime.requests import answer

from .conftest import EXTREMES, FULL, every_method_and_schedule, with_audio_bos, with_kept_positions
from .models import AFTER, BEFORE, our_rows, reference_decoder, sound

KEPT = tuple(profile for profile in with_kept_positions() if "constant" in profile.name)
PROFILES = (FULL, *every_method_and_schedule(), *with_audio_bos(), *EXTREMES, *KEPT)
CLIPS = {"two rows": 961, "short": 9000, "seven windows": 210000}
SECONDS = 0.04  # of a row
KV_HEADS = 2


@pytest.fixture(scope="module")
def telling(checkpoint, tmp_path_factory):
    """A model whose prefills say where their rows come from."""
    folder = tmp_path_factory.mktemp("maps") / "artifact"
    build(checkpoint, folder, BuildOptions(PROFILES, weights="copy", row_maps=True))
    return SpeechLM.load(folder, threads=1)


@pytest.fixture(scope="module")
def answered(telling):
    found = {}

    def answer(profile, clip):
        if (profile, clip) not in found:
            ids = PromptIds(BEFORE, AFTER)
            samples = sound(CLIPS[clip], seed=len(clip))
            found[profile, clip] = telling.generate(samples, ids, profile=profile, max_new_tokens=4)
        return found[profile, clip]

    return answer


def expected_rows(reference, resolved, rows):
    """By layer and head the rows of the audio that each row of the reference stands for."""
    audio = range(len(BEFORE), len(BEFORE) + rows)

    def left(place, own):
        sources = reference.layers.sources.get(place, [[row] for row in range(len(own))])
        return [[row for each in run for row in own[each]] for run in sources]

    own = left(BEFORE_LAYERS, [[row] for row in range(len(BEFORE) + rows + len(AFTER))])
    found = {}
    for layer in range(len(reference.prefix_lengths)):
        if resolved.is_of_caches and resolved.ratios[layer]:
            for head in range(KV_HEADS):
                gone = reference.layers.evicted[layer][head] if layer in reference.layers.evicted else []
                found[layer, head] = [run for row, run in enumerate(own) if not (len(gone) and gone[row])]
            continue
        found[layer, None] = own
        own = left(layer, own)
    return {
        place: [kept for run in runs if (kept := [row - audio.start for row in run if row in audio])]
        for place, runs in found.items()
    }


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_rows_stand_for_what_the_reference_made_them_of(telling, model, answered, profile, clip):
    result = answered(profile, clip)
    rows = our_rows(telling, sound(CLIPS[clip], seed=len(clip)))
    reference = reference_decoder(model, telling.manifest.profiles[profile], rows)
    reference.layers.tells_sources = True
    reference.start(1)
    expected = expected_rows(reference, telling.manifest.profiles[profile], len(rows))
    assert [(each.layer, each.head) for each in result.row_map] == list(expected)
    for each in result.row_map:
        runs = expected[each.layer, each.head]
        assert [run[-1] - run[0] + 1 for run in runs] == [len(run) for run in runs]
        np.testing.assert_allclose(each.starts, [run[0] * SECONDS for run in runs], atol=1e-9)
        ends = [min((run[-1] + 1) * SECONDS, result.audio_seconds) for run in runs]
        np.testing.assert_allclose(each.ends, ends, atol=1e-9)


@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_spans_rise_and_only_methods_that_drop_rows_leave_gaps(telling, answered, profile):
    result = answered(profile, "short")
    traits = telling.manifest.profiles[profile].profile.traits
    whole = result.row_map[0]
    for each in result.row_map:
        assert all(start < end for start, end in zip(each.starts, each.ends, strict=True))
        gaps = [start - end for end, start in zip(each.ends, each.starts[1:], strict=False)]
        assert min(gaps, default=0) >= 0
        if not traits.reduces or (traits.merges and not traits.selects_groups):
            assert max(gaps, default=0) == 0
            assert (each.starts[0], each.ends[-1]) == (whole.starts[0], whole.ends[-1])


@pytest.mark.parametrize(
    "profile", ["weighted_merge-constant", "a_tome-decay", "h2o-constant", "fastv-single"]
)
def test_telling_changes_no_bit_of_an_answer(speech_lm, answered, profile):
    told = answered(profile, "short")
    plain = speech_lm.generate(
        sound(CLIPS["short"], seed=len("short")), PromptIds(BEFORE, AFTER), profile=profile, max_new_tokens=4
    )
    assert plain.row_map is None
    assert (plain.hypotheses, plain.prefix_lengths) == (told.hypotheses, told.prefix_lengths)


def test_no_token_waits_for_the_map(telling, monkeypatch):
    """Seconds of thousands of rows take longer than a step."""
    made = []
    monkeypatch.setattr(answer, "prompt_rows", lambda *sizes: made.append(sizes) or prompt_rows(*sizes))
    stream = telling.stream(sound(CLIPS["short"]), PromptIds(BEFORE, AFTER), max_new_tokens=4)
    next(stream)
    assert not made
    list(stream)
    assert len(made) == 1
    assert stream.result.row_map is not None


def test_rows_in_the_caches_are_as_many_as_in_the_map(answered):
    for profile in PROFILES:
        result = answered(profile.name, "short")
        if not profile.include_audio_bos:
            rows = [len(each.starts) for each in result.row_map if each.head in (None, 0)]
            assert [length - result.text_rows for length in result.prefix_lengths] == rows


def test_every_method_is_one_that_merges_or_drops(answered):
    """A method whose row in the table says the wrong thing is noticed: what it tells does not add up."""
    from fastadasp.export.reference.reduction import REDUCTIONS, evict

    drops = {name for name, reduction in REDUCTIONS.items() if reduction.apply is evict}
    assert {name for name, method in METHODS.items() if method.reduces and not method.merges} == drops


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"targets": ("openvino",)}, "openvino"),
        ({"targets": ("onnxruntime", "openvino")}, "openvino"),
        ({"engines": EngineOptions()}, "engines"),
    ],
)
def test_other_targets_are_refused_by_name(other, named):
    with pytest.raises(
        RequestError, match=f"row_maps: graphs for onnxruntime alone .*, not {named}; build two"
    ):
        BuildOptions((FULL,), row_maps=True, **other)
