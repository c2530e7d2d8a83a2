"""The grid: profiles of one cost a column, or the reason why there is none."""

from __future__ import annotations

from fractions import Fraction

import pytest

from demo_files import DEMO
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import audio_tokens, resolve_for
from fastadasp.export.studies.compare.grid import compact_twin, comparison_grid
from fastadasp.export.studies.compare.options import CompareOptions
from fastadasp.export.studies.compare.unmet import at_most
from fastadasp.export.studies.reference_request import ReferenceRequest, mean_request
from fastadasp.profiles.errors import ProfileError, RequestError
from fastadasp.profiles.flops import flops_reduction
from fastadasp.profiles.methods import METHODS, VARIANTS
from fastadasp.profiles.schedule import AT_INPUT, SCHEDULES, has_start_layer

SECONDS, TEXT_ROWS = Fraction(17, 5), 7


@pytest.fixture(scope="module")
def model():
    return load_model(Checkpoint(DEMO / "model"))


@pytest.fixture(scope="module")
def reference(model):
    return ReferenceRequest(SECONDS, audio_tokens(model, float(SECONDS)), TEXT_ROWS)


@pytest.fixture(scope="module")
def grid(model, reference):
    return comparison_grid(model, CompareOptions(), reference)


def resolved(row, model):
    return [resolve_for(profile, model) for cell in row.cells for profile in cell.profiles]


def reductions(row, model, reference):
    """What each profile removes from the reference request."""
    rows = reference.audio_tokens, reference.text_rows
    return [
        flops_reduction(model.decoder.dims, *rows, found.ratios, found.input_ratio)
        for found in resolved(row, model)
    ]


def test_every_method_has_a_row_under_every_schedule_that_it_can_have(grid):
    assert {row.method.name for row in grid} == set(METHODS) - {"full"}
    assert len(grid) == sum(len(method.schedules) for method in VARIANTS.values())
    assert [row.label for row in grid][-1] == "H2O, constant"
    names = [profile.name for row in grid for cell in row.cells for profile in cell.profiles]
    assert len(set(names)) == len(names)


def test_a_column_is_one_span_one_start_and_one_budget(grid, model, reference):
    for schedule in SCHEDULES:
        rows = [row for row in grid if row.schedule == schedule and not row.method.is_of_caches]
        for cells in zip(*(row.cells for row in rows), strict=True):
            profiles = [profile for cell in cells for profile in cell.profiles]
            assert len({resolve_for(profile, model).ratio for profile in profiles}) == 1
            start = CompareOptions().start_layer if has_start_layer(schedule) else 0
            assert {profile.start_layer for profile in profiles} == {start}
        for level, found in zip(CompareOptions().levels, reductions(rows[0], model, reference), strict=True):
            assert level <= found < level + Fraction(3, 100)


def test_names_have_all_decimals_of_a_level(model, reference):
    percents = "0.5", "10", "12.5", "30", "30.00001", "30.000011", "33.3"
    levels = tuple(Fraction(percent) / 100 for percent in percents)
    (row,) = comparison_grid(model, CompareOptions(("fastv",), ("constant",), levels), reference)
    names = [profile.name for cell in row.cells for profile in cell.profiles]
    assert names == [f"fastv-constant-{percent}" for percent in percents]


def test_random_methods_have_a_profile_a_seed(model, reference):
    options = CompareOptions(methods=("random_merge", "fastv"), seeds=4)
    merge, fastv = comparison_grid(model, options, reference)[::3]
    assert all(cell.seeds == (0, 1, 2, 3) for cell in merge.cells)
    assert all(len(cell.profiles) == 1 for cell in fastv.cells)


def test_positions_are_those_asked_for_but_for_methods_of_caches(model, reference):
    for positions in ("compact", "kept"):
        rows = comparison_grid(model, CompareOptions(positions=(positions,)), reference)
        assert any(row.method.is_of_caches for row in rows)
        for row in rows:
            found = {profile.positions for cell in row.cells for profile in cell.profiles}
            assert found == ({"compact"} if row.method.is_of_caches else {positions})


def test_a_row_of_kept_positions_has_the_compact_one_as_its_twin(model, reference):
    options = CompareOptions(("random_merge", "h2o"), ("constant", "decay"), positions=("compact", "kept"))
    rows = comparison_grid(model, options, reference)
    twins = {row.label: twin.label for row in rows if (twin := compact_twin(row, rows))}
    assert twins == {
        f"random merge, kept, {schedule}": f"random merge, compact, {schedule}"
        for schedule in ("constant", "decay")
    }
    names = [profile.name for row in rows for cell in row.cells for profile in cell.profiles]
    assert len(set(names)) == len(names)


def test_both_scores_of_fastv_are_compared(grid):
    scores = {row.name: row.cells[0].profiles[0].fastv_score for row in grid if row.method.name == "fastv"}
    assert scores == {"fastv": "all_queries", "fastv_last_query": "last_query"}


def test_caches_of_h2o_are_the_largest_within_those_of_the_merge_in_its_column(grid, model, reference):
    merge = next(row for row in grid if row.label == "FastAdaSP, constant")
    h2o = next(row for row in grid if row.name == "h2o")
    layers = model.decoder.dims.num_layers - CompareOptions().start_layer  # one row each is the next step
    for ours, theirs in zip(resolved(h2o, model), resolved(merge, model), strict=True):
        budget = sum(theirs.token_counts(reference.audio_tokens).cached)
        kept = sum(ours.token_counts(reference.audio_tokens).cached)
        assert budget - layers < kept <= budget


def test_a_level_that_a_schedule_cannot_reach_says_how_far_it_reaches(model, reference):
    last = model.decoder.dims.num_layers - 2
    options = CompareOptions(levels=(Fraction(1, 100), Fraction(1, 2)), start_layer=last)
    for row in comparison_grid(model, options, reference):
        if row.schedule in AT_INPUT:
            assert all(cell.profiles for cell in row.cells)  # at the input nearly all can go
            continue
        low, high = row.cells
        assert low.most is None
        assert low.profiles
        assert (high.profiles, high.seeds) == ((), ())
        assert at_most(high) == f"at most {float(100 * high.most) - 0.005:.2f} %"
        assert low.level < high.most < high.level


def test_a_schedule_that_starts_at_the_last_layer_reaches_no_level(model, reference):
    last = model.decoder.dims.num_layers - 1
    levels = Fraction(1, 100), Fraction(1, 2)
    for row in comparison_grid(model, CompareOptions(levels=levels, start_layer=last), reference):
        for cell in row.cells:
            if row.schedule in AT_INPUT:
                assert (bool(cell.profiles), cell.unreachable) == (True, None)
                continue
            start = f"schedule '{row.schedule}' cannot start at the last layer, {last}"
            assert (cell.profiles, cell.most) == ((), None)
            assert cell.unreachable.startswith(start)
            assert ("nothing is saved" in cell.unreachable) == (row.schedule != "decay")


def test_a_start_layer_that_the_model_lacks_is_no_infeasible_cell_but_an_error(model, reference):
    last = model.decoder.dims.num_layers - 1
    with pytest.raises(
        ProfileError, match=f"start_layer 99 is out of range: this model has layers 0 to {last}"
    ):
        comparison_grid(model, CompareOptions(start_layer=99), reference)


def test_all_faults_of_the_options_are_told_at_once():
    with pytest.raises(RequestError) as error:
        CompareOptions(methods=("tome", "fastv"), schedules=("linear",), levels=(Fraction(1),), seeds=0)
    message = str(error.value)
    assert "method tome is unknown: choose all, or some of weighted_merge, " in message
    assert "schedule linear is unknown: choose all, or some of single, constant, decay" in message
    assert "has none of the schedules" not in message  # what is unknown says it already
    assert "FLOPs reductions must lie between 0 and 100 %" in message
    assert "seeds is 0: give a whole number of at least 1" in message


def test_nothing_to_compare_is_refused():
    with pytest.raises(RequestError) as error:
        CompareOptions(methods=("h2o", "affinity_pooling"), schedules=("decay",))
    assert str(error.value) == (
        f"method h2o has none of the schedules decay: name {' or '.join(VARIANTS['h2o'].schedules)}; "
        "method affinity_pooling has none of the schedules decay: name input_and_single"
    )
    with pytest.raises(RequestError, match=r"^methods and schedules: nothing to compare; give at least one$"):
        CompareOptions(methods=(), schedules=())


def test_the_reference_is_the_mean_of_the_clips_that_can_be_read(model, own_clips):
    import json

    import soundfile

    from fastadasp.evaluation import read_clips

    (own_clips.parent / "noise.wav").write_bytes(b"no audio at all")
    with own_clips.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"audio": "noise.wav", "text": "one", "task": "asr"}) + "\n")
    clips = read_clips(own_clips, "asr", prompt="<asr>")
    found = mean_request(Checkpoint(DEMO / "model"), model, clips.clips)
    lengths = [soundfile.info(clip.path).duration for clip in clips.clips[:-1]]
    assert abs(found.audio_seconds - sum(lengths) / len(lengths)) <= 0.05
    assert found.audio_tokens == audio_tokens(model, float(found.audio_seconds))
    given = mean_request(Checkpoint(DEMO / "model"), model, clips.clips, Fraction(30))
    assert (given.audio_seconds, given.text_rows) == (30, found.text_rows)


def test_without_a_clip_that_can_be_read_there_is_no_reference(model, tmp_path):
    from fastadasp.evaluation import read_clips

    (tmp_path / "a.wav").write_bytes(b"noise")
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(RequestError, match="none of 1 clips can be read; the first: audio "):
        mean_request(Checkpoint(DEMO / "model"), model, read_clips(tmp_path).clips)
