"""Cells: FLOPs from the rows that are kept, and means over seeds with intervals of the mean."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from fastadasp.evaluation.answers.answers import Answer, ClipAnswers, Cost
from fastadasp.evaluation.figures.scores import Measurement, draw, figure, mean_of
from fastadasp.evaluation.options import Bootstrap
from fastadasp.export.studies.compare.cells import cell_record
from fastadasp.export.studies.compare.grid import FULL_CELL, Cell
from fastadasp.export.studies.compare.kept_rows import achieved_reduction, mean_layer_rows
from fastadasp.profiles.flops import DecoderDims, flops_reduction, prefill_flops, resolve
from fastadasp.profiles.profile import Profile
from fastadasp.runtime.audio.front_end import FrontEnd
from fastadasp.runtime.audio.log_mel import LogMelConfig

DIMS = DecoderDims(4, 64, 4, 2, 16, 128, 400)
TEXT = 5
REFERENCES = [["one two three"], ["four five"], ["six"], ["seven eight"]]
SEEDS = {
    "a": ["one two", "four five", "six", "eight"],
    "b": ["one two three", "five", "six", "seven"],
    "c": ["one", "four", "six six", "seven eight"],
}
FULL = {"full": [texts[0] for texts in REFERENCES]}


def manifest(*profiles, bos_rows=0):
    front_end = FrontEnd(LogMelConfig(), rows_per_token=2, bos_rows=bos_rows, eos_rows=bos_rows)
    resolved = {profile.name: resolve(profile, DIMS, 100) for profile in profiles}
    return SimpleNamespace(decoder=SimpleNamespace(dims=DIMS), front_end=front_end, profiles=resolved)


def answered(rows, **layer_rows):
    """A clip of so many audio rows; profile -> audio rows in each cache."""
    costs = {name: Cost(tuple(kept), 2.0, 3.0, 2) for name, kept in layer_rows.items()}
    answers = {name: Answer("", 1, True, sum(kept) / 4 / rows) for name, kept in layer_rows.items()}
    return ClipAnswers(f"{rows}.wav", rows, TEXT, answers, costs=costs)


def counts(found, name, rows):
    return found.profiles[name].token_counts(rows).cached


@pytest.mark.parametrize("method", ["weighted_merge", "fastv", "random_evict"])
@pytest.mark.parametrize("schedule", ["single", "constant"])
def test_kept_rows_tell_the_reduction_that_the_ratios_give(method, schedule):
    found = manifest(Profile("p", method, schedule, 1, ratio=Fraction(1, 3)))
    expected = flops_reduction(DIMS, 100, TEXT, found.profiles["p"].ratios)
    measured = [answered(100, p=counts(found, "p", 100))]
    assert achieved_reduction(found, ["p"], measured) == pytest.approx(float(expected))


def test_rows_around_the_audio_are_no_rows_that_the_last_layer_removes():
    found = manifest(Profile("p", "weighted_merge", "constant", 1, ratio=Fraction(1, 3)), bos_rows=1)
    expected = flops_reduction(DIMS, 100, TEXT + 2, found.profiles["p"].ratios)
    measured = [answered(102, p=[rows + 2 for rows in counts(found, "p", 100)])]
    assert achieved_reduction(found, ["p"], measured) == pytest.approx(float(expected))


def test_the_reduction_is_that_of_all_clips_together():
    found = manifest(Profile("p", "weighted_merge", "constant", 1, ratio=Fraction(1, 2)))
    measured = [answered(rows, p=counts(found, "p", rows)) for rows in (10, 90)]
    full = sum(prefill_flops(DIMS, [rows + TEXT] * 4, [rows + TEXT] * 4) for rows in (10, 90))
    saved = [
        float(flops_reduction(DIMS, rows, TEXT, found.profiles["p"].ratios))
        * prefill_flops(DIMS, [rows + TEXT] * 4, [rows + TEXT] * 4)
        for rows in (10, 90)
    ]
    assert achieved_reduction(found, ["p"], measured) == pytest.approx(sum(saved) / full)


def test_pairs_of_the_last_layer_are_counted_at_their_fewest():
    found = manifest(Profile("p", "a_tome", "constant", 3, ratio=Fraction(1, 2)))
    measured = [answered(100, p=[100] * 4)]  # no cache tells what the last layer removes
    pairs = prefill_flops(DIMS, [105] * 4, [105] * 3 + [80])
    full = prefill_flops(DIMS, [105] * 4, [105] * 4)
    assert achieved_reduction(found, ["p"], measured) == pytest.approx(1 - pairs / full)


def test_a_shorter_cache_saves_no_prefill_flops():
    found = manifest(Profile("p", "h2o", "constant", 0, ratio=Fraction(1, 2)))
    measured = [answered(100, p=counts(found, "p", 100))]
    assert achieved_reduction(found, ["p"], measured) == 0
    assert mean_layer_rows(["p"], measured) == (50, 50, 50, 50)


def drawn(systems):
    return draw(Measurement("asr", bootstrap=Bootstrap(200)), REFERENCES, systems)


def test_a_cell_of_several_seeds_is_their_mean_and_its_interval_that_of_the_mean():
    found, (full, *_) = drawn(FULL | SEEDS), drawn(FULL)["full"]
    runs = [found[seed][0] for seed in SEEDS]
    mean = figure(mean_of(runs), full)
    assert mean.value == pytest.approx(np.mean([sample.value for sample, _ in runs]))
    resampled = np.mean([values for _, values in runs], axis=0)
    assert [mean.interval.low, mean.interval.high] == pytest.approx(np.percentile(resampled, [2.5, 97.5]))
    assert mean.delta.value == pytest.approx(mean.value - full[0].value)
    difference = np.percentile(resampled - full[1], [2.5, 97.5])
    assert [mean.delta.interval.low, mean.delta.interval.high] == pytest.approx(difference)


def test_a_cell_of_one_run_is_that_run():
    full, own = drawn(FULL | SEEDS)["full"], drawn(SEEDS)["a"]
    assert figure(mean_of([own[0]]), full[0]) == figure(own[0], full[0])


def test_a_metric_that_has_no_value_has_no_mean():
    measurement = Measurement("asr", normalizer="basic", bootstrap=Bootstrap(9))
    (sample, _), *_ = draw(measurement, [["!"]], {"a": ["x"]})["a"]
    assert sample.value is None
    assert mean_of([(sample, None), (sample, None)])[0].reason == sample.reason


def test_a_cell_has_its_seeds_its_spread_and_the_medians_of_its_times():
    profiles = [
        Profile(name, "random_merge", "constant", 1, ratio=Fraction(1, 3), seed=i)
        for i, name in enumerate(SEEDS)
    ]
    found, systems = manifest(*profiles), drawn(FULL | SEEDS)
    measured = [answered(60, **{name: counts(found, name, 60) for name in SEEDS}) for _ in REFERENCES]
    runs = {name: systems[name] for name in SEEDS}
    asked = Cell(Fraction(1, 5), tuple(profiles))
    cell = cell_record(asked, found, runs, systems["full"], measured, timed=True)
    values = [systems[name][0][0].value for name in SEEDS]
    assert (cell.profiles, cell.seeds) == (tuple(SEEDS), (0, 1, 2))
    assert cell.figures["wer"].seeds == tuple(values)
    assert cell.figures["wer"].spread == pytest.approx(np.std(values, ddof=1))
    assert (cell.prefill_ms, cell.decode_ms, cell.step_ms) == (2, 3, 1.5)
    assert cell.layer_rows == counts(found, "a", 60)
    assert cell.kept_ratio == pytest.approx(sum(cell.layer_rows) / 240)
    untimed = cell_record(asked, found, runs, systems["full"], measured, timed=False)
    assert (untimed.prefill_ms, untimed.decode_ms, untimed.step_ms) == (None, None, None)


def test_a_difference_from_float32_weights_is_paired():
    """Two systems that err on the same clips: each varies with the clips, their difference hardly does."""
    references = [[f"a{i} b{i} c{i} d{i}"] for i in range(40)]
    hard = [texts[0] if i % 2 else f"x{i} y{i} z{i} d{i}" for i, texts in enumerate(references)]
    same = [*hard[:-1], "a39 b39 c39 x"]  # one more word is wrong
    found = draw(Measurement("asr", bootstrap=Bootstrap(500)), references, {"full": same, "float32": hard})
    counted = [answered(60, full=[60] * 4) for _ in references]
    own, original = {"full": found["full"]}, {"full": found["float32"]}
    of_full = manifest(Profile("full", "full"))
    cell = cell_record(FULL_CELL, of_full, own, None, counted, timed=True, float32=original)
    assert cell.figures["wer"].delta is None
    assert cell.seeds == ()
    paired = cell.from_float32["wer"]
    assert paired.value == pytest.approx(1 / 160)
    drawn = found["full"][0][1], found["float32"][0][1]
    generator = np.random.default_rng(1)
    unpaired = np.percentile(drawn[0] - generator.permutation(drawn[1]), [2.5, 97.5])
    assert paired.low >= 0
    assert unpaired[0] < -0.1
    assert 5 * (paired.high - paired.low) < unpaired[1] - unpaired[0]
