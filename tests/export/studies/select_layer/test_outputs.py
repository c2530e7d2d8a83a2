"""Forks of one run give what every candidate gives from scratch in the torch reference."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.reference.layers import TorchLayers
from fastadasp.export.reference.model import load_reference
from fastadasp.export.reference.reduction import Span
from fastadasp.export.reference.spec_decoder import SpecDecoder
from fastadasp.export.studies.select_layer.outputs import layer_outputs
from fastadasp.profiles.flops import ResolvedProfile
from fastadasp.profiles.keys import POSITIONS
from fastadasp.profiles.profile import Profile
from fastadasp.profiles.schedule import layer_ratios, removed

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS, HIDDEN = 4, 64  # of the tiny checkpoint
TEXT = 5, 9  # rows before and after the audio
RATIOS = [Fraction(1, 4), Fraction(2, 7), Fraction(1, 2), Fraction(2, 3)]  # of the four candidates
ATOL = 1e-4  # of rows whose scale is 1 to 10


@pytest.fixture(scope="module")
def decoder(tiny_checkpoint):
    return SpecDecoder(load_model(Checkpoint(tiny_checkpoint)).decoder)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint):
    return load_reference(tiny_checkpoint)


def merge_at(layer, ratio, positions="compact"):
    profile = Profile(f"at-{layer}", "weighted_merge", "single", layer, ratio=ratio, positions=positions)
    return ResolvedProfile(profile, ratio, layer_ratios("single", layer, ratio, LAYERS))


CANDIDATES = {layer: merge_at(layer, ratio) for layer, ratio in enumerate(RATIOS)}


def prompt_of(audio_rows):
    rows = torch.randn(sum(TEXT) + audio_rows, HIDDEN, generator=torch.Generator().manual_seed(audio_rows))
    return rows, Span(TEXT[0], audio_rows)


def from_scratch(reference, rows, span, resolved):
    """The audio rows of the last block's output, run by transformers' own layers."""
    with torch.no_grad():
        x = TorchLayers(reference).prefill(rows[None], resolved, span)[0]
    left = span.length - removed(span.length, resolved.ratio)
    assert len(x) == sum(TEXT) + left
    return x[span.start : span.start + left].numpy()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("audio_rows", [1, 2, 3, 40, 111])
def test_forks_equal_each_candidate_run_from_scratch(decoder, reference, audio_rows, positions):
    rows, span = prompt_of(audio_rows)
    candidates = {layer: merge_at(layer, ratio, positions) for layer, ratio in enumerate(RATIOS)}
    found = layer_outputs(decoder, rows, span, candidates)
    assert list(found) == list(candidates)
    for layer, outputs in found.items():
        late = merge_at(LAYERS - 1, RATIOS[layer])
        expected = from_scratch(reference, rows, span, candidates[layer])
        np.testing.assert_allclose(outputs.at_layer, expected, atol=ATOL, rtol=0)
        np.testing.assert_allclose(
            outputs.at_last, from_scratch(reference, rows, span, late), atol=ATOL, rtol=0
        )


def test_a_merge_at_another_layer_would_be_noticed(decoder):
    rows, span = prompt_of(40)
    same = {layer: merge_at(layer, Fraction(1, 2)) for layer in range(LAYERS)}
    outputs = [found.at_layer for found in layer_outputs(decoder, rows, span, same).values()]
    for i, one in enumerate(outputs):
        assert all(np.abs(one - other).max() > 100 * ATOL for other in outputs[:i])


def test_at_the_last_layer_both_terms_are_the_same_bits(decoder):
    found = layer_outputs(decoder, *prompt_of(40), CANDIDATES)[LAYERS - 1]
    assert found.at_last.tobytes() == found.at_layer.tobytes()


def test_both_terms_have_as_many_rows(decoder):
    rows, span = prompt_of(40)
    for layer, outputs in layer_outputs(decoder, rows, span, CANDIDATES).items():
        assert len(outputs.at_last) == len(outputs.at_layer) == 40 - removed(40, RATIOS[layer])


def test_of_equal_similarities_the_first_rows_are_merged(decoder, monkeypatch):
    """Without rotation, equal rows have equal keys: all edges tie, and the first ones are taken."""
    monkeypatch.setattr(decoder, "_rotate", lambda x, positions: x)
    rows, span = prompt_of(9)
    rows[span.start : span.start + span.length] = rows[span.start]
    merged = {}
    monkeypatch.setattr(
        "fastadasp.export.studies.select_layer.outputs.merge_at_once",
        lambda hidden, edges, *_: merged.setdefault("edges", edges) and hidden,
    )
    layer_outputs(decoder, rows, span, {0: merge_at(0, Fraction(1, 2))})
    assert merged["edges"] == [0, 1, 2, 3]
