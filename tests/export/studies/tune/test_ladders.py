"""What is tried, and what a budget or an objective may be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import audio_tokens
from fastadasp.export.studies.reference_request import ReferenceRequest
from fastadasp.export.studies.tune.ladders import all_candidates, default_start_layers, ladders_of
from fastadasp.export.studies.tune.options import TuneOptions
from fastadasp.profiles.errors import ProfileError, RequestError
from fastadasp.profiles.flops import flops_reduction, resolve
from fastadasp.profiles.schedule import AT_INPUT


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


@pytest.fixture(scope="module")
def reference(model):
    return ReferenceRequest(Fraction(2), audio_tokens(model, 2.0), 7)


@pytest.mark.parametrize(
    ("layers", "starts"), [(1, (0,)), (4, (0, 1, 2)), (8, (0, 2, 4)), (32, (0, 2, 8, 10, 16))]
)
def test_start_layers_are_a_few_that_differ(layers, starts):
    assert default_start_layers(layers) == starts


def test_every_candidate_meets_its_level_with_the_ratio_that_it_names(model, reference):
    methods = ("weighted_merge", "uniform_merge")
    options = TuneOptions(1.0, methods=methods, schedules=("constant", "single", *AT_INPUT))
    candidates = all_candidates(ladders_of(model, options, reference))
    assert len({candidate.name for candidate in candidates}) == len(candidates)
    for candidate in candidates:
        assert candidate.profile.ratio is not None
        found = resolve(candidate.profile, model.decoder.dims, 1)
        rows = reference.audio_tokens, reference.text_rows
        assert flops_reduction(model.decoder.dims, *rows, found.ratios, found.input_ratio) >= candidate.level


@pytest.mark.parametrize("positions", [("compact",), ("kept",), ("compact", "kept")])
def test_every_candidate_has_the_positions_that_are_asked_for(model, reference, positions):
    ladders = ladders_of(model, TuneOptions(1.0, positions=positions), reference)
    assert {candidate.profile.positions for candidate in all_candidates(ladders)} == set(positions)
    for ladder in ladders:
        for candidate in ladder.candidates:
            assert candidate.profile.positions == ladder.positions
            assert (f"-{ladder.positions}-" in candidate.name) == (len(positions) > 1)


def test_a_level_out_of_reach_ends_its_ladder_with_the_reason(model, reference):
    levels = tuple(Fraction(tenth, 10) for tenth in range(1, 10))
    ladders = ladders_of(model, TuneOptions(1.0, levels=levels), reference)
    for ladder in ladders:
        found = [candidate.level for candidate in ladder.candidates]
        assert found == list(levels[: len(found)])
        assert (len(found) == len(levels)) == (ladder.unreachable is None)
        assert [*found, *([ladder.beyond] if ladder.beyond else ())] == list(levels[: len(found) + 1])
    assert any(ladder.unreachable and "is infeasible, at most" in ladder.unreachable for ladder in ladders)


def test_a_decay_from_the_last_layer_reaches_no_level_and_ends_no_other_ladder(model, reference):
    options = TuneOptions(1.0, schedules=("decay",), start_layers=(0, 3), positions=("kept",))
    first, last = ladders_of(model, options, reference)
    assert first.candidates
    assert (last.candidates, last.beyond) == ((), Fraction(1, 10))
    assert "cannot start at the last layer, 3" in last.unreachable


@pytest.mark.parametrize("schedule", ["single", "constant"])
def test_a_reduction_in_the_last_layer_alone_reaches_no_level(model, reference, schedule):
    levels = Fraction(1, 100), Fraction(1, 2)
    options = TuneOptions(1.0, schedules=(schedule,), start_layers=(2, 3), positions=("kept",), levels=levels)
    first, last = ladders_of(model, options, reference)
    assert first.candidates
    assert (last.candidates, last.beyond) == ((), levels[0])
    assert last.unreachable == (
        f"schedule '{schedule}' cannot start at the last layer, 3, where nothing is saved: "
        "start earlier or reduce at the input"
    )


def test_what_reduces_at_the_input_too_may_start_at_the_last_layer(model, reference):
    options = TuneOptions(
        1.0, methods=("affinity_pooling",), schedules=("input_and_single",), start_layers=(3,)
    )
    assert all(ladder.candidates for ladder in ladders_of(model, options, reference))


def test_a_profile_that_cannot_be_is_a_fault_and_not_out_of_reach(model, reference):
    finer = replace(reference, audio_seconds=Fraction(2) + Fraction(1, 10**10))
    with pytest.raises(ProfileError, match=r"^profile '.*reference_audio_seconds"):
        ladders_of(model, TuneOptions(1.0), finer)


def test_methods_are_told_apart_by_name_where_there_are_several(model, reference):
    options = TuneOptions(
        1.0,
        methods=("fastv", "random_merge"),
        schedules=("constant",),
        positions=("kept",),
        start_layers=(1,),
    )
    names = {candidate.name for candidate in all_candidates(ladders_of(model, options, reference))}
    assert {"fastv-constant-1-flops-10", "random_merge-constant-1-flops-10"} <= names


def test_what_starts_in_no_layer_is_tried_once(model, reference):
    options = TuneOptions(1.0, methods=("uniform_merge", "weighted_merge"), schedules=("input", "single"))
    ladders = [ladder for ladder in ladders_of(model, options, reference) if ladder.schedule == "input"]
    assert [(ladder.method, ladder.start_layer, ladder.positions) for ladder in ladders] == [
        ("uniform_merge", 0, "compact"),
        ("uniform_merge", 0, "kept"),
    ]


def test_a_method_that_no_schedule_would_try_is_refused_with_its_own():
    with pytest.raises(RequestError) as found:
        TuneOptions(1.0, methods=("weighted_merge", "affinity_pooling"), schedules=("decay", "single"))
    assert str(found.value) == (
        "method affinity_pooling has none of the schedules decay, single: "
        "name input_and_single beside them, or leave the method out"
    )


def test_schedules_that_no_method_has_are_refused_with_those_of_each():
    with pytest.raises(RequestError) as found:
        TuneOptions(1.0, methods=("weighted_merge", "affinity_pooling"), schedules=("input",))
    assert str(found.value) == (
        "method weighted_merge has none of the schedules input: name single or constant or decay; "
        "method affinity_pooling has none of the schedules input: name input_and_single"
    )


def test_nothing_to_try_is_refused(model, reference):
    with pytest.raises(ProfileError, match="start layer 4 is out of range"):
        ladders_of(model, TuneOptions(1.0, start_layers=(4,)), reference)
    for start, reason in ((2, "at most"), (3, "nothing is saved")):
        options = TuneOptions(1.0, start_layers=(start,), schedules=("single",), levels=(Fraction(9, 10),))
        with pytest.raises(ProfileError, match=rf"no level can be reached: .* {reason}"):
            ladders_of(model, options, reference)


def test_every_fault_of_the_options_is_told_at_once():
    with pytest.raises(RequestError) as caught:
        TuneOptions(
            -1.0,
            methods=("a_tome", "h2o"),
            schedules=(),
            positions=("last",),
            start_layers=(-2,),
            levels=(Fraction(1, 10), Fraction("33.3333333333") / 100, Fraction(3, 2)),
            name="my best",
            runs=0,
        )
    for part in (
        "a budget of -1: give a number of points from 0 on",
        "method a_tome, h2o cannot be tried: choose among weighted_merge",
        "schedules: nothing to try",
        "positions last cannot be tried: choose among compact, kept",
        "start layer -2: layers count from 0",
        "levels 33.3333333333, 150: each must lie between 0 and 100, both excluded: a number of at most 9",
        "profile 'my best': the name becomes a file name",
        "runs is 0",
    ):
        assert part in str(caught.value)
