"""Every method and schedule against the torch reference: lengths, logits of every step, searches."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.export.reference.model import load_reference
from fastadasp.export.reference.reduction import Site, Span, best, disjoint, margin, merge, merge_at_once
from fastadasp.profiles.flops import ResolvedProfile
from fastadasp.profiles.methods import METHODS, VARIANTS
from fastadasp.profiles.profile import Profile
from fastadasp.runtime.decoding.options import SearchOptions

from .conftest import FULL, REDUCED, REDUCING, with_bos
from .models import AFTER, BEFORE, all_logits, answers, forced_logits, our_rows, reference_decoder, sound

ATOL = 1e-4  # of logits whose scale is 10, in float32
MOVED_ATOL = 5e-4  # where a cache holds its keys at other positions: angles of 330 positions are rounded
WEIGHED_ATOL = 1.5e-3  # where, beside, positions are weighted means over many of these rows at once
CLIPS = {"one row": 800, "two rows": 961, "short": 9000, "one window": 32000, "seven windows": 210000}
STEPS = 8


@pytest.fixture(scope="module")
def rows_of(speech_lm):
    """Audio rows of each clip, once."""
    found = {}

    def rows(clip):
        if clip not in found:
            found[clip] = our_rows(speech_lm, sound(CLIPS[clip], seed=len(clip)))
        return found[clip]

    return rows


@pytest.fixture
def ours(speech_lm, rows_of):
    return lambda profile, clip: speech_lm.decoder(profile, BEFORE, rows_of(clip), AFTER)


@pytest.fixture
def reference(speech_lm, model, rows_of):
    def decoder(profile, clip):
        return reference_decoder(model, speech_lm.manifest.profiles[profile], rows_of(clip))

    return decoder


def greedy(decoder, vocab_size):
    options = SearchOptions(max_new_tokens=STEPS)
    return list(answers(decoder, options, vocab_size)[0].tokens)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("profile", [profile.name for profile in (FULL, *REDUCED)])
def test_lengths_logits_and_tokens_equal_the_reference(speech_lm, ours, reference, vocab_size, profile, clip):
    resolved = speech_lm.manifest.profiles[profile]
    tokens = greedy(reference(profile, clip), vocab_size)
    theirs, mine = reference(profile, clip), ours(profile, clip)
    expected, found = (forced_logits(decoder, tokens[:-1], vocab_size) for decoder in (theirs, mine))
    assert mine.cache.prefix_lengths == theirs.prefix_lengths
    atol = MOVED_ATOL if resolved.is_of_caches or resolved.keeps_positions else ATOL
    if resolved.takes_row_weights and resolved.keeps_positions:
        atol = WEIGHED_ATOL
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)
    assert greedy(ours(profile, clip), vocab_size) == tokens


@pytest.mark.parametrize("profile", [profile.name for profile in REDUCED])
def test_beams_equal_the_reference(ours, reference, vocab_size, profile):
    first = all_logits(reference(profile, "short").start(vocab_size))[0]
    options = SearchOptions(
        num_beams=5, max_new_tokens=STEPS, num_return_sequences=5, eos_token_ids=(int(first.argsort()[-4]),)
    )
    expected, found = (
        answers(decoder(profile, "short"), options, vocab_size) for decoder in (reference, ours)
    )
    assert [(h.tokens, h.finished) for h in found] == [(h.tokens, h.finished) for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=ATOL)


@pytest.mark.parametrize(
    "profile",
    ["weighted_merge-constant", "a_tome-decay", "random_evict-single", "h2o-constant", "a_tome-decay-kept"],
)
def test_long_answers_of_many_beams_equal_the_reference(ours, reference, vocab_size, profile):
    options = SearchOptions(num_beams=5, num_return_sequences=5, max_new_tokens=45)
    expected, found = (
        answers(decoder(profile, "short"), options, vocab_size) for decoder in (reference, ours)
    )
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=ATOL)


def choose(schedules):
    """The one by which methods are told apart, of those that one has."""
    return "constant" if "constant" in schedules else schedules[0]


def test_a_wrong_method_would_be_noticed(ours, vocab_size):
    """The first two rows of logits of any two methods are further apart than any tolerance here."""
    profiles = ("full", *(f"{name}-{choose(method.schedules)}" for name, method in VARIANTS.items()))
    profiles += tuple(f"{name}-input" for name, method in VARIANTS.items() if "input" in method.schedules)
    profiles += tuple(f"{method}-with-bos" for method in with_bos(REDUCING))
    profiles += tuple(
        f"{name}-{choose(METHODS[name].schedules)}-kept"
        for name in REDUCING
        if not METHODS[name].is_of_caches
    )
    logits = [
        forced_logits(ours(profile, "one window"), [17], vocab_size) for profile in dict.fromkeys(profiles)
    ]
    for i, one in enumerate(logits):
        for other in logits[:i]:
            assert np.abs(one - other).max() > 100 * ATOL


def test_the_reference_without_reduction_is_the_model_itself(model, reference, rows_of, vocab_size):
    tokens = [17, 91, 203]
    embed = model.get_input_embeddings()
    parts = [embed(torch.as_tensor(BEFORE)), torch.as_tensor(rows_of("short"))[:, : embed.embedding_dim]]
    parts += [embed(torch.as_tensor(AFTER)), embed(torch.as_tensor(tokens))]
    with torch.no_grad():
        expected = model(inputs_embeds=torch.cat(parts)[None]).logits[0, -len(tokens) - 1 :]
    found = forced_logits(reference("full", "short"), tokens, vocab_size)
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("merge", [merge, merge_at_once])
def test_the_reference_merges_as_the_worked_example_does(merge):
    """The specification's example, worked by hand: rows, similarities and weights, then results."""
    hidden = torch.tensor([[1.0, 0], [0, 1], [2, 2], [4, 0], [0, 3], [1, 1]])
    similarity = torch.tensor([0.90, 0.80, 0.10, 0.95, 0.20])
    weight, ones = torch.tensor([4.0, 3, 2, 1, 2, 0.5]), torch.ones(6)
    span = Span(0, 6)
    two, three = best(similarity, 2), best(similarity, 3)
    assert (two, three) == ([0, 3], [0, 1, 3])
    weighted = merge(hidden, three, weight, span)
    assert weighted.tolist() == pytest.approx(np.array([[8 / 9, 7 / 9], [4 / 3, 2], [1, 1]]))
    assert merge(hidden, two, ones, span).tolist() == [[0.5, 0.5], [2, 2], [2, 1.5], [1, 1]]
    pairs = merge(hidden, disjoint(three), ones, span)
    assert pairs.tolist() == [[0.5, 0.5], [2, 2], [2, 1.5], [1, 1]]


@given(st.integers(1, 20), st.data())
def test_merging_at_once_equals_merging_row_by_row(length, data):
    edges = sorted(data.draw(st.sets(st.integers(0, length - 2)))) if length > 1 else []
    generator = torch.Generator().manual_seed(length)
    hidden, weight = (
        torch.randn(length + 7, 5, generator=generator),
        torch.rand(length + 7, generator=generator),
    )
    weight[data.draw(st.integers(0, length + 6))] = 0  # nobody attends to it
    span = Span(3, length)
    found, expected = (function(hidden, edges, weight, span) for function in (merge_at_once, merge))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    linked = {span.start + edge + place for edge in edges for place in (0, 1)}
    single = [row for row in range(len(hidden)) if row not in linked]
    kept = [row - sum(span.start + edge < row for edge in edges) for row in single]
    assert torch.equal(found[kept], hidden[single])  # to the bit


def test_ties_go_to_the_lower_index():
    assert best(torch.tensor([1.0, 2, 2, 2, 0]), 2) == [1, 2]
    assert best(-torch.zeros(4), 3) == [0, 1, 2]


@pytest.mark.parametrize("profile", ["weighted_merge-decay", "fastv_last_query-constant", "h2o-constant"])
def test_the_reference_is_the_same_in_float64(checkpoint, reference, speech_lm, rows_of, vocab_size, profile):
    model = load_reference(checkpoint, "float64")
    wide = reference_decoder(model, speech_lm.manifest.profiles[profile], rows_of("short"))
    tokens = [17, 91, 203]
    expected = forced_logits(reference(profile, "short"), tokens, vocab_size)
    np.testing.assert_allclose(forced_logits(wide, tokens, vocab_size), expected, atol=ATOL, rtol=0)
    assert model.dtype == torch.float64


def site_of(method, keys, count, probabilities=None):
    """A site over all rows of one head, under a profile of this method."""
    resolved = ResolvedProfile(
        Profile("mine", method, "constant", 0, ratio=Fraction(1, 2)), Fraction(1, 2), ()
    )
    rows = keys.transpose(0, 1).flatten(1)
    return Site(resolved, 0, Span(0, keys.shape[1]), count, rows, keys, probabilities)


def test_the_margin_is_the_gap_between_what_is_taken_and_what_is_left():
    angles = torch.tensor([0.0, 0.1, 0.3, 0.6])  # neighbours are ever less alike
    keys = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    cosines = (angles[1:] - angles[:-1]).cos()
    expected = (cosines[0] - cosines[1]) / cosines[0]
    assert margin(site_of("weighted_merge", keys, 1)) == pytest.approx(expected.item(), rel=1e-4)
    assert margin(site_of("weighted_merge", keys, 3)) == np.inf  # nothing is left
    assert margin(site_of("random_merge", keys, 1)) == np.inf  # integers do not round
    received = torch.tensor([4.0, 1.0, 3.0, 1.5]).expand(1, 1, -1)
    assert margin(site_of("fastv", keys, 1, received)) == pytest.approx(0.5)  # 1.0 goes, 1.5 stays
    by_head = torch.stack([received[0], torch.tensor([[1.0, 2, 1.25, 3]])])
    assert margin(site_of("h2o", keys.repeat(2, 1, 1), 1, by_head)) == pytest.approx(0.25)  # the closer head
