"""Sections hold what the files hold, no more, and their figures are what Plotly takes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fastadasp.evaluation.report.page import sections
from fastadasp.evaluation.report.plotly_parts import axis, names_axis, plotly_figure
from fastadasp.evaluation.report.series_style import COLOURS, MARKERS, NEUTRAL, styles
from fastadasp.evaluation.results.figure_text import figure_of, heading
from fastadasp.evaluation.results.figures import Difference
from fastadasp.evaluation.results.files import Results, read_results
from fastadasp.evaluation.results.selection import SelectionResult
from fastadasp.evaluation.results.settings import Failure
from fastadasp.export.studies.compare.grid import Row
from fastadasp.profiles.codec import RecordError
from fastadasp.runtime.alignment.row_map import LayerRows

from . import examples
from .examples import record, write

DARK, WHITE = "#171b21", "#ffffff"


@pytest.fixture(scope="session")
def by_title(results):
    return {section.title: section for section in sections(results)}


def test_every_figure_is_what_plotly_takes(by_title):
    from plotly.graph_objects import Figure

    plots = [plot for section in by_title.values() for plot in section.plots]
    assert len(plots) > 15
    for plot in plots:
        Figure(plot.figure)


def test_every_plot_has_its_figures_as_a_table_too(by_title):
    for section in by_title.values():
        for plot in section.plots:
            assert plot.alt
            assert plot.table.rows
            assert {len(row) for row in plot.table.rows} == {len(plot.table.columns)}


def test_a_page_has_only_sections_that_there_is_something_for(real_files):
    titles = [section.title for section in sections(read_results([real_files["bench"]]))]
    assert titles == ["Latency of requests", "How to read this page", "Where the figures come from"]
    assert [section.title for section in sections(Results())] == titles[1:]


def test_throughput_and_percentiles_are_drawn_over_every_load(real_files):
    (file,) = read_results([real_files["bench-load"]]).files
    (section,) = [each for each in sections(read_results([real_files["bench-load"]])) if each.plots]
    assert section.title == "Under load"
    titles = [plot.title for plot in section.plots]
    assert titles == [
        f"{what} over the {load}"
        for load in ("clients", "rate of arrivals")
        for what in (
            *("Requests a second", "Seconds of audio a second"),
            *("Latency of a request", "Time to first token"),
        )
    ]
    cases = [case for case in file.found.results if (case.profile, case.arrivals) == ("full", "closed")]
    by_title = {plot.title: plot for plot in section.plots}
    full, reduced = by_title["Requests a second over the clients"].figure["data"]
    assert (full["legendgroup"], reduced["legendgroup"]) == ("full", "dense-constant-50")
    assert full["x"] == [1, 2]
    assert full["y"] == [case.requests_per_second for case in cases]
    latency = by_title["Latency of a request over the clients"]
    dashes = {
        trace["line"]["dash"]: trace for trace in latency.figure["data"] if trace["legendgroup"] == "full"
    }
    assert dashes["dot"]["y"] == [case.times["request_ms"].p99 for case in cases]
    assert dashes["solid"]["y"] == [case.times["request_ms"].p50 for case in cases]
    assert latency.figure["layout"]["xaxis"]["tickvals"] == [1, 2]
    assert latency.table.rows[0][-1] == "4"
    (table,) = section.tables
    assert len(table.rows) == len(file.found.results) == 6


def test_accuracy_is_drawn_over_the_flops_that_were_removed_not_over_those_asked_for(by_title):
    wer = by_title["Accuracy and FLOPs"].plots[0].figure
    a_tome = next(trace for trace in wer["data"] if "A-ToMe" in trace["legendgroup"])
    assert a_tome["x"] == pytest.approx([8.1, 18.1, 28.1, 38.1, 48.1])
    assert a_tome["y"] == pytest.approx(examples.WER["a_tome", "constant"])
    assert a_tome["error_y"]["array"] == pytest.approx([0.04 * y + 0.1 for y in a_tome["y"]])


def test_the_paired_difference_is_in_the_hover_and_in_a_table(tmp_path):
    found = examples.asr_comparison()
    (first, *others) = found.rows
    cell = replace(first.cells[0], from_compact={"wer": Difference(-0.012, -0.02, -0.003)})
    wer = replace(cell.figures["wer"], delta=Difference(0.031, 0.004, 0.05))
    cell = replace(cell, figures={**cell.figures, "wer": wer})
    found = replace(found, rows=(replace(first, cells=(cell, *first.cells[1:])), *others))
    section = next(sections(read_results([write(tmp_path / "compare.json", found)])))
    hovers = [text for trace in section.plots[0].figure["data"] for text in trace["hovertext"]]
    assert sum("+3.10 (+0.40 to +5.00) from the full model" in text for text in hovers) == 1
    assert sum("-1.20 (-2.00 to -0.30) from compact" in text for text in hovers) == 1
    assert len(section.tables) == len(section.plots)
    rows = {row[0]: row for row in section.tables[0].rows}
    assert section.tables[0].columns[1] == "10 %"
    assert any(row[1] == "+3.10 (+0.40 to +5.00)" for row in rows.values())
    assert "full model" not in rows


def test_figures_are_shown_in_the_units_that_people_read():
    asr, translation = examples.asr_comparison(), examples.translation_comparison()
    wer = figure_of(asr.metrics[0], asr.full.figures)
    assert (wer.value, wer.low) == pytest.approx((2.21, 2.0216))
    assert heading(asr.metrics[0]) == "WER, %"
    assert figure_of(translation.metrics[0], translation.full.figures).value == pytest.approx(41.46)
    assert heading(translation.metrics[0]) == "BLEU"


def test_rows_of_one_schedule_are_called_by_their_methods_alone(tmp_path):
    found = examples.asr_comparison()
    found = replace(found, rows=tuple(row for row in found.rows if row.schedule == "constant"))
    section = next(sections(read_results([write(tmp_path / "compare.json", found)])))
    methods = ["random merge", "random eviction", "A-ToMe", "FastAdaSP"]
    assert [swatch.label for swatch in section.legend] == [*methods, "full model"]
    assert section.plots[0].title == "WER, %, constant"
    assert "positions kept" in section.plots[0].context


def test_a_level_that_is_not_met_is_told_once_by_positions_schedule_and_weights(tmp_path):
    found = examples.asr_comparison()

    def of(row, reason):
        return record(row, (replace(cell, unmet=reason) for cell in found.rows[0].cells[:2]))

    rows = tuple(
        of(Row("a_tome", schedule, (), positions=positions, names_positions=True), f"{positions} {schedule}")
        for schedule in ("single", "constant")
        for positions in ("compact", "kept")
    )
    h2o = of(Row("h2o", "constant", ()), "of caches")
    int8 = of(Row("h2o", "constant", (), "int8"), "of caches")
    full = record(Row("full", "", (), "int8"), [found.full])
    found = replace(
        found,
        protocol=replace(found.protocol, positions=("compact", "kept")),
        formats=(*found.formats, replace(found.formats[0], quantized="int8")),
        rows=(*rows, h2o, full, int8),
    )
    section = next(sections(read_results([write(tmp_path / "compare.json", found)])))
    assert section.notes == (
        "A-ToMe, compact, single at 10 %, 20 %: compact single (compare.json)",
        "A-ToMe, kept, single at 10 %, 20 %: kept single (compare.json)",
        "A-ToMe, compact, constant at 10 %, 20 %: compact constant (compare.json)",
        "A-ToMe, kept, constant at 10 %, 20 %: kept constant (compare.json)",
        "H2O, constant at 10 %, 20 %: of caches (compare.json)",
        "H2O, constant, int8 at 10 %, 20 %: of caches (compare.json)",
    )


@pytest.mark.parametrize(("seeds", "told"), [(1, False), (3, True)])
def test_seeds_of_random_methods_are_told_where_there_are_several(tmp_path, seeds, told):
    found = examples.asr_comparison()
    found = replace(found, protocol=replace(found.protocol, seeds=seeds))
    *_, reading, _ = sections(read_results([write(tmp_path / "compare.json", found)]))
    assert any("several seeds" in note for note in reading.notes) is told


def test_the_full_model_is_a_line_across_the_plot(by_title):
    (line,) = by_title["Accuracy and FLOPs"].plots[0].figure["layout"]["shapes"]
    assert line["y0"] == line["y1"] == pytest.approx(2.21)


def test_a_cell_without_a_figure_is_left_out_and_told_in_the_table(by_title):
    bleu = by_title["Accuracy and FLOPs"].plots[1]
    evict = next(trace for trace in bleu.figure["data"] if "evict" in trace["legendgroup"])
    assert len(evict["x"]) == 4
    row = next(row for row in bleu.table.rows if row[0].startswith("random evict"))
    assert row[-1] == "-"


def test_a_logarithmic_scale_is_used_where_values_span_decades_and_is_told(by_title):
    wer, bleu = by_title["Accuracy and FLOPs"].plots
    assert wer.figure["layout"]["yaxis"]["type"] == "log"
    assert "logarithmic" in wer.note
    assert "type" not in bleu.figure["layout"]["yaxis"]


def test_a_method_has_the_same_colour_in_every_plot(by_title):
    colours = {}
    for title in ("Accuracy and FLOPs", "Accuracy and latency"):
        for plot in by_title[title].plots:
            for trace in plot.figure["data"]:
                colours.setdefault(trace["legendgroup"], set()).add(trace["marker"]["color"])
    assert len(colours) == len(examples.WER) + 1
    assert all(len(found) == 1 for found in colours.values())


def test_a_comparison_of_many_rows_has_a_plot_a_schedule_in_which_colours_are_methods(tmp_path):
    found = examples.asr_comparison()
    rows = tuple(
        record(Row(row.method, schedule, (), positions="kept"), row.cells)
        for schedule in ("single", "constant")
        for row in found.rows[:5]
    )
    first = next(sections(read_results([write(tmp_path / "compare.json", replace(found, rows=rows))])))
    assert [plot.title for plot in first.plots] == ["WER, %, single", "WER, %, constant"]
    assert [len(plot.figure["data"]) for plot in first.plots] == [6, 6]
    assert [swatch.label for swatch in first.legend] == [
        *("random merge", "random eviction", "A-ToMe", "FastV", "FastAdaSP", "full model")
    ]


def test_methods_that_keep_the_same_rows_share_a_plot(by_title):
    plots = by_title["Audio rows in each layer"].plots
    assert [plot.title.count(" · ") + 1 for plot in plots[:3]] == [4, 1, 1]


def test_the_labels_of_step_lines_do_not_touch(by_title):
    for plot in by_title["Audio rows in each layer"].plots:
        places = [label["y"] for label in plot.figure["layout"]["annotations"]]
        gaps = [after - before for before, after in pairwise(places)]
        assert min(gaps) > 0.07 * examples.ROWS


def test_the_layer_of_the_lowest_entropy_is_not_passed_off_as_the_best(by_title):
    notes = by_title["Layer of a sparse profile"].notes
    assert [note for note in notes if note.startswith("layers-made-up.json")] == [
        "layers-made-up.json: at 30 % the lowest TE is not the best: layer 3 has Accuracy 54.40, "
        "layer 2 has 54.90; their intervals overlap"
    ]


def test_the_selected_layer_is_marked(by_title, results):
    entropies = by_title["Layer of a sparse profile"].plots[0].figure["data"][0]
    marked = [
        x
        for x, colour in zip(entropies["x"], entropies["marker"]["color"], strict=True)
        if colour == COLOURS[1]
    ]
    assert marked == [results.of(SelectionResult)[0].found.selected]


def test_failures_of_all_files_are_listed(by_title):
    (table,) = by_title["Clips that failed"].tables
    assert {row[:2] for row in table.rows} == {
        ("eval.json", "broken.wav"),
        ("compare-asr.json", "broken.flac"),
        ("compare-st.json", "broken.flac"),
        ("tune-made-up.json", "silent.wav"),
        ("layers-made-up.json", "short.flac"),
    }


def test_a_clip_without_entropies_and_answers_is_listed_once_for_each_reason(tmp_path):
    selection = examples.selection()
    unread = Failure("bad.flac", 3, (), "cannot be read")
    answered = (replace(unread, profiles=("full", "layer-0")), Failure("long.flac", 4, ("full",), "too long"))
    found = replace(
        selection,
        failures=(unread, *selection.failures),
        accuracy=replace(selection.accuracy, failures=answered),
    )
    page = sections(read_results([write(tmp_path / "layers.json", found)]))
    (section,) = (each for each in page if each.title == "Clips that failed")
    assert section.tables[0].rows == (
        ("layers.json", "bad.flac", "entropies, full, layer-0", "cannot be read"),
        ("layers.json", "short.flac", "entropies", selection.failures[0].reason),
        ("layers.json", "long.flac", "full", "too long"),
    )
    assert "lacks entropies alone is left out of the entropies alone" in section.intro


def test_cases_that_were_skipped_are_told(by_title):
    section = by_title["Latency of requests"]
    assert len(section.plots) == 4
    assert len([note for note in section.notes if "600 s" in note and "was skipped" in note]) == 4


def test_a_choice_that_the_held_out_clips_refuse_is_told(tmp_path):
    tuning = examples.tuning()
    refused = replace(tuning, held_out=replace(tuning.held_out, within_budget=False))
    found = sections(read_results([write(tmp_path / "tune.json", refused)]))
    assert "tune.json: the held-out clips find the chosen profile beyond the budget of 1" in next(found).notes


def test_a_tuning_without_a_choice_gives_the_reason(tmp_path):
    reason = "no candidate is within the budget"
    tuning = replace(examples.tuning(), choice=None, profile=None, held_out=None, reason=reason)
    found = next(sections(read_results([write(tmp_path / "tune.json", tuning)])))
    assert found.notes == ("tune.json: nothing is chosen: no candidate is within the budget",)
    assert not found.facts


def test_seeds_of_different_things_are_told_apart(tmp_path):
    tuning = replace(examples.tuning(), seed=7)
    *_, sources = sections(read_results([write(tmp_path / "tune.json", tuning)]))
    (settings,) = (dict(entries) for name, entries in sources.facts[0].groups if name == "Settings")
    assert (settings["seed"], settings["intervals.seed"]) == ("7", "0")


def test_every_file_has_a_command_that_makes_it(by_title):
    commands = [facts.command[:2] for facts in by_title["Where the figures come from"].facts]
    assert {command for _, command in commands} == {
        "eval",
        "bench",
        "select-layer",
        "compare",
        "tune",
        "plan",
        "run",
    }


def test_series_are_told_apart_without_colour():
    found = styles(str(i) for i in range(4 * len(COLOURS)))
    assert len(set(found.values())) == len(found)
    assert len({(style.dash, style.marker) for style in found.values()}) == len(found)
    assert len(MARKERS) == len(COLOURS)


@pytest.mark.parametrize("colour", [*COLOURS, NEUTRAL])
@pytest.mark.parametrize("page", [WHITE, DARK])
def test_lines_have_enough_contrast_on_light_and_dark_pages(colour, page):
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_plot_of_zeros_begins_at_zero():
    zeros = {"x": [1, 2], "y": [0, 0.0], "error_y": {"array": [0, 0], "arrayminus": [0, 0]}}
    layout = plotly_figure([zeros], axis(), axis())["layout"]
    assert layout["yaxis"]["range"] == [0, 1]
    assert "range" not in layout["xaxis"]
    known = {**zeros, "error_y": {"array": [0, 0.1], "arrayminus": [0, 0]}}
    assert "range" not in plotly_figure([known], axis(), axis())["layout"]["yaxis"]
    named = plotly_figure([{"x": [0], "y": [0]}], axis(), names_axis(["only"]))["layout"]
    assert named["yaxis"]["range"] == [0.6, -0.6]


# Weight formats


@pytest.fixture
def formats_page(tmp_path):
    found = examples.quantized_comparison()
    return found, list(sections(read_results([write(tmp_path / "compare.json", found)])))


def test_weight_formats_stand_below_each_other_with_their_difference_from_float32(formats_page):
    section = next(part for part in formats_page[1] if part.title == "Weight formats")
    accuracy, costs = section.tables
    assert [row[:2] for row in accuracy.rows][:4] == [
        ("full model", "float32"),
        ("full model", "int8"),
        ("random eviction, constant, 10 %", "float32"),
        ("random eviction, constant, 10 %", "int8"),
    ]
    assert len(accuracy.rows) == 2 * (1 + 2 * len(examples.LEVELS) - 1)  # a cell was not measured
    assert {row[3] for row in accuracy.rows if row[1] == "float32"} == {""}
    assert {row[3] for row in accuracy.rows if row[1] == "int8"} == {"-0.12 (-0.21 to -0.02)"}
    assert costs.rows[0] == ("full model", "float32", "790.0", "23.0", "33.0 GB", "-")
    assert costs.rows[1] == ("full model", "int8", "790.0", "23.0", "8.3 GB", "9.1 GB")
    assert section.notes == ("Peak memory of compare.json: peaks.",)


def test_every_format_has_a_plot_of_its_own_in_which_colours_are_methods(formats_page):
    found, page = formats_page
    accuracy = page[0]
    assert [
        ("int8 weights" in plot.context, "float32 weights" in plot.context) for plot in accuracy.plots
    ] == [
        (False, True),
        (True, False),
    ]
    methods = [row.label.removesuffix(", constant") for row in found.reduced_in(None)]
    assert [swatch.label for swatch in accuracy.legend] == [*methods, "full model"]
    (rows,) = [part for part in page if part.title == "Audio rows in each layer"]
    assert not any("int8" in plot.title for plot in rows.plots)


@pytest.mark.parametrize("formats", [(None, "int8"), ("int8", "int4")])
def test_rows_of_each_layer_name_the_format_only_where_it_changes_them(tmp_path, formats):
    found = examples.quantized_comparison(*formats)
    *same, other = found.rows
    cells = tuple(replace(cell, layer_rows=cell.layer_rows[::-1]) for cell in other.cells)

    def titles(found):
        page = sections(read_results([write(tmp_path / "compare.json", found)]))
        (section,) = (part for part in page if part.title == "Audio rows in each layer")
        return [plot.title for plot in section.plots]

    assert titles(found) == ["random eviction, constant · FastAdaSP, constant"]
    assert titles(replace(found, rows=(*same, replace(other, cells=cells)))) == [
        f"random eviction, constant · {same[1].label}",
        other.label,
    ]


def test_a_comparison_in_one_format_has_no_section_of_formats(by_title):
    assert "Weight formats" not in by_title


def test_a_map_has_a_bar_for_each_row_and_a_line_for_each_layer_or_head(tmp_path):
    (section, *_) = sections(read_results([write(tmp_path / "map.json", examples.row_map())]))
    (plot,) = section.plots
    *_, bars = plot.figure["data"]
    assert plot.figure["layout"]["yaxis"]["ticktext"] == ["0", "1", "2, head 0", "2, head 1"]
    assert (bars["base"], bars["y"]) == (
        [0.0, 0.04, 0.08, 0.12, 0.0, 0.08, 0.12, 0.0, 0.12, 0.08, 0.12],
        [0] * 4 + [1] * 3 + [2] * 2 + [3] * 2,
    )
    assert len({bars["marker"]["color"][place] for place in (0, 5, 8)}) == 1
    assert bars["marker"]["color"][4] == bars["marker"]["color"][7] != bars["marker"]["color"][0]
    assert bars["marker"]["opacity"] == [*([1, 0.65] * 2), 1, 0.65, 1, *([1, 0.65] * 2)]
    assert bars["hovertext"][4] == "layer 1<br>0.00 to 0.08 s<br>2 in one"
    assert plot.table.rows == (
        ("0", "4", "0.04", "0.00"),
        ("1", "3", "0.08", "0.00"),
        ("2, head 0", "2", "0.08", "0.04"),
        ("2, head 1", "2", "0.04", "0.08"),
    )


@pytest.mark.parametrize("boundaries", [(), (0.0,), (0.1, 0.0), (0.0, 0.2)])
def test_a_row_map_without_audio_tokens_in_their_order_is_refused(boundaries):
    with pytest.raises(RecordError, match="boundaries are not two times or more that follow each other"):
        replace(examples.row_map(), boundaries=boundaries)


def test_of_a_long_clip_rows_that_are_as_they_were_are_drawn_together(tmp_path):
    found, rows = examples.row_map(), 4000
    starts = tuple(0.04 * i for i in range(rows))
    layer = LayerRows(0, None, starts, (*starts[1:], 160.0))
    merged = LayerRows(1, None, starts[1:], (*starts[2:], 160.0))
    merged = replace(merged, starts=(0.0, *merged.starts[1:]))
    boundaries = (*starts, 160.0)
    long = replace(found, audio_seconds=160.0, boundaries=boundaries, layers=(layer, merged))
    (section, *_) = sections(read_results([write(tmp_path / "map.json", long)]))
    *_, bars = section.plots[0].figure["data"]
    assert len(bars["base"]) == 3
    assert bars["hovertext"][0].endswith("4000 rows as they were")
