"""A layer is a candidate where one merge can meet the target, by the smallest ratio that does."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import audio_tokens, profile_of
from fastadasp.export.studies.reference_request import ReferenceRequest
from fastadasp.export.studies.select_layer.candidates import candidate_layers
from fastadasp.export.studies.select_layer.options import SelectionOptions
from fastadasp.profiles.errors import RequestError
from fastadasp.profiles.flops import RATIO_GRID, flops_reduction
from fastadasp.profiles.keys import POSITIONS
from fastadasp.profiles.profile import parse_profile, profile_to_toml
from fastadasp.profiles.schedule import layer_ratios


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


def request(model, seconds=30):
    """Audio of so many seconds, and twenty rows of text."""
    return ReferenceRequest(Fraction(seconds), audio_tokens(model, seconds), 20)


def reduction(model, reference, layer, ratio):
    """The share of FLOPs that one merge removes, counted apart from the code under test."""
    dims = model.decoder.dims
    ratios = layer_ratios("single", layer, ratio, dims.num_layers)
    return flops_reduction(dims, reference.audio_tokens, reference.text_rows, ratios)


@pytest.mark.parametrize("percent", [1, 10, 30, 50, 70])
@pytest.mark.parametrize("seconds", [3, 30])
def test_a_layer_is_feasible_where_the_largest_ratio_meets_the_target(model, percent, seconds):
    options, reference = SelectionOptions(Fraction(percent, 100)), request(model, seconds)
    found = candidate_layers(model, options, reference)
    assert [candidate.layer for candidate in found] == list(range(model.decoder.dims.num_layers))
    step = Fraction(1, RATIO_GRID)
    for candidate in found[:-1]:
        layer, resolved = candidate.layer, candidate.resolved
        assert candidate.most == reduction(model, reference, layer, 1 - step)
        assert (resolved is None) == (candidate.most < options.flops_reduction)
        if resolved is not None:
            assert resolved.reducing_layers == (layer,)
            assert reduction(model, reference, layer, resolved.ratio) >= options.flops_reduction
            assert reduction(model, reference, layer, resolved.ratio - step) < options.flops_reduction


def test_the_last_layer_is_none_of_which_the_prefill_computes_one_row(model):
    reference, least = request(model), Fraction(1, 1000)
    last = candidate_layers(model, SelectionOptions(least), reference)[-1]
    assert (last.layer, last.most, last.resolved) == (model.decoder.dims.num_layers - 1, 0, None)
    assert last.infeasible == "the last layer: nothing is saved"
    assert reduction(model, reference, last.layer, 1 - Fraction(1, RATIO_GRID)) > least, "FLOPs count it"


def test_a_later_layer_reaches_less_and_needs_a_larger_ratio(model):
    found = candidate_layers(model, SelectionOptions(Fraction(1, 10)), request(model))
    ratios = [candidate.resolved.ratio for candidate in found if candidate.resolved]
    assert len(ratios) > 1
    assert ratios == sorted(ratios)
    assert sorted((candidate.most for candidate in found), reverse=True) == [c.most for c in found]


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_profile_of_a_candidate_names_its_ratio_and_positions(model, positions):
    options = SelectionOptions(Fraction(1, 3), name="mine", positions=positions)
    resolved = candidate_layers(model, options, request(model))[1].resolved
    profile = parse_profile(profile_to_toml(profile_of(resolved)), "mine", "here")
    assert (profile.method, profile.schedule, profile.start_layer) == ("weighted_merge", "single", 1)
    assert (profile.ratio, profile.flops_reduction) == (resolved.ratio, None)
    assert profile.positions == positions


@pytest.mark.parametrize(
    "values", [{"flops_reduction": Fraction(1)}, {"resamples": 0}, {"threads": -1}, {"positions": "last"}]
)
def test_options_out_of_range_are_refused(values):
    with pytest.raises(RequestError):
        SelectionOptions(**{"flops_reduction": Fraction(1, 2), **values})
