"""What a command writes is what is read; foreign, old and hostile files are refused, every fault by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fastadasp.evaluation.report.page import sections
from fastadasp.evaluation.results.files import KINDS, command_of, read_results, result_text
from fastadasp.evaluation.results.settings import AnswerSettings
from fastadasp.profiles.codec import from_json, to_json
from fastadasp.profiles.errors import ResultsError

from ..report import examples
from ..report.examples import write


def faults(*paths):
    with pytest.raises(ResultsError) as caught:
        read_results(paths)
    return caught.value.faults


def changed(path, change):
    """A file of a comparison that somebody has edited."""
    content = json.loads(result_text(examples.asr_comparison()))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    return path


# What is written is what is read


def test_there_is_a_file_of_every_kind(real_files):
    assert list(real_files) == [
        "eval",
        "bench",
        "bench-load",
        "select-layer",
        "compare",
        "tune",
        "plan",
        "row-map",
    ]
    assert set(real_files) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_command_writes_is_read_and_written_again_byte_by_byte(kind, real_files):
    text = real_files[kind].read_text("utf-8")
    (file,) = read_results([real_files[kind]]).files
    assert file.kind == kind
    assert result_text(file.found, file.command) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_a_command_comes_back_as_it_was(kind, real_files, tmp_path):
    (file,) = read_results([real_files[kind]]).files
    (again,) = read_results([write(tmp_path / "again.json", file.found)]).files
    assert again.found == file.found
    assert type(again.found) is KINDS[kind].record


def test_what_the_commands_leave_out_is_null_and_comes_back_as_none(real_files):
    found = {kind: read_results([path]).files[0].found for kind, path in real_files.items()}
    assert [failure.id for failure in found["eval"].failures] == ["broken.wav"]
    assert found["eval"].records[3].audio_rows is None
    assert {case.figures is None for case in found["bench"].results} == {True, False}
    assert any(layer.ratio is None for layer in found["select-layer"].layers)
    assert found["select-layer"].accuracy is not None
    assert found["compare"].rows[0].cells[1].unmet.startswith("infeasible")
    assert found["compare"].rows[1].cells[0].seeds == (0, 1)
    assert found["tune"].timing is not None


# Where a file comes from


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_command_line_that_was_given(kind, real_files, command_lines):
    (file,) = read_results([real_files[kind]]).files
    assert file.command == command_lines[kind]
    assert "'/" in file.command, "paths with a blank were expected, so that quoting is tested"


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_shows_that_line_and_how_intervals_were_made(kind, real_files, command_lines):
    by_title = {section.title: section for section in sections(read_results([real_files[kind]]))}
    (facts,) = by_title["Where the figures come from"].facts
    assert " ".join(facts.command) == command_lines[kind]
    notes = by_title["How to read this page"].notes
    name = real_files[kind].name
    made = [
        note for note in notes if f" of {name}: " in note and ("bootstrap" in note or "percentile" in note)
    ]
    assert len(made) == {"select-layer": 2, "plan": 0, "row-map": 0}.get(kind, 1)
    assert kind.startswith("bench") or all("; 20 resamples, seed 0." in note for note in made)


def test_a_path_that_is_no_unicode_is_recorded_as_far_as_it_is_text(tmp_path):
    path = write(tmp_path / "\udcff.json", examples.tuning())
    (file,) = read_results([path]).files
    assert file.name == "?.json"
    assert file.command.endswith("/?.json'")


def test_of_a_file_that_python_made_the_page_says_so(tmp_path):
    (tmp_path / "compare.json").write_text(result_text(examples.asr_comparison()), "utf-8")
    results = read_results([tmp_path / "compare.json"])
    assert results.files[0].command is None
    (facts,) = list(sections(results))[-1].facts
    assert facts.command == ()
    assert ("made", "from Python, so there is no command line") in facts.entries


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /",
        "fastadasp-export eval ART",
        "fastadasp-export compare ART; rm -rf /",
        "fastadasp-export compare $(rm -rf /)",
        "fastadasp-export compare 'ART",
        "",
        7,
    ],
)
def test_a_line_that_would_run_anything_else_is_refused(command, tmp_path):
    (found,) = faults(changed(tmp_path / "x.json", lambda file: file.update(command=command)))
    assert found.endswith(f"command is {command!r}, not a command line of fastadasp-export compare")


# What is refused


def test_all_faulty_files_are_reported_together(tmp_path, real_files):
    def content(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return tmp_path / name

    old, reads = json.loads(real_files["tune"].read_text("utf-8")), KINDS["tune"].version
    found = faults(
        content("other.json", {"kind": "golden", "format_version": 1}),
        real_files["eval"],
        content("old.json", {**old, "format_version": 1}),
        content("newer.json", {**old, "format_version": reads + 1}),
        content("nameless.json", {"model": {}}),
        content("list.json", [1]),
        content("infinite.json", b'{"kind": "eval", "x": NaN}'),
        content("binary.json", b"\xff\xfe"),
        content("half.json", {"kind": "\ud800"}),
        content("broken.json", b'{"kind"'),
        content("deep.json", b"[" * 100_000),
        tmp_path / "missing.json",
        tmp_path,
    )
    expected = (
        "other.json: is of kind 'golden'; known are bench, eval",
        "old.json: is a file of tune, format version 1; this version of fastadasp-export reads "
        f"{reads}: make",
        f"newer.json: is a file of tune, format version {reads + 1}",
        "nameless.json: names no kind",
        "list.json: is [1], not an object; give a file that a command of this tool wrote",
        "infinite.json: holds NaN",
        "binary.json: is no text",
        "half.json: kind holds half of a surrogate pair, which is no character; give a file",
        "broken.json: is no JSON",
        "deep.json: is nested deeper than 100 levels; give a file",
        "missing.json: No such file",
        "Is a directory",
    )
    assert len(found) == len(expected)
    assert all(words in fault for words, fault in zip(expected, found, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_an_earlier_version_is_refused_with_the_command_that_makes_it_again(
    kind, real_files, tmp_path
):
    content = json.loads(real_files[kind].read_text("utf-8"))
    path = tmp_path / "old.json"
    earlier = {**content, "format_version": KINDS[kind].version - 1}
    path.write_text(json.dumps(earlier), "utf-8")
    (found,) = faults(path)
    assert found.endswith(f"make it again with: fastadasp-export {command_of(kind)}")


def test_a_benchmark_of_the_first_version_names_no_kind_and_is_told_from_other_files(real_files, tmp_path):
    content = json.loads(real_files["bench"].read_text("utf-8"))
    assert content.pop("kind") == "bench"
    (tmp_path / "old.json").write_text(json.dumps({**content, "format_version": 1}), "utf-8")
    (found,) = faults(tmp_path / "old.json")
    assert "is a file of bench, format version 1" in found


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda file: file.pop("task"), "task is missing"),
        (
            lambda file: file["rows"][1]["cells"][2].update(level=30),
            "cells[2].level is 30, not a share such as",
        ),
        (lambda file: file["full"].update(level="1/0"), "full.level is '1/0', not a share such as 3/10"),
        (lambda file: file["full"].update(layer_rows=[1, None]), "full.layer_rows[1] is None, not a number"),
        (lambda file: file["full"]["figures"]["wer"].update(value=True), "wer.value is True, not a number"),
        (lambda file: file["rows"][0].update(label=[]), "rows[0].label is [], not a text"),
        (lambda file: file.update(metrics={}), "metrics is {}, not a list"),
        (lambda file: file["metrics"][0].update(unit="%"), "unit is '%', not 'share' or 'points' or 'score'"),
        (lambda file: file["clips"].update(count=10**400), "clips.count is 1000"),
        (lambda file: file["full"].update(prefill_ms=1e300), "full.prefill_ms is 1e+300, not a number"),
        (lambda file: file["settings"]["search"].update(num_beams=0), "settings.search.num_beams is 0: give"),
        (lambda file: file.pop("command"), "command is '', not a command line"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_place(change, fault, tmp_path):
    (found,) = faults(changed(tmp_path / "compare.json", change))
    assert fault in found


def test_an_evaluation_without_a_profile_is_refused(real_files, tmp_path):
    content = json.loads(real_files["eval"].read_text("utf-8"))
    (tmp_path / "eval.json").write_text(json.dumps({**content, "profiles": []}), "utf-8")
    (found,) = faults(tmp_path / "eval.json")
    assert found.endswith("eval.json: profiles is empty")


def test_all_faults_of_one_file_are_told_up_to_a_few(tmp_path):
    def change(file):
        file.update(task=1, levels=[None] * 20)

    found = faults(changed(tmp_path / "compare.json", change))
    assert len(found) == 11
    assert "task is 1, not a text" in found[0]
    assert found[-1].endswith("and 11 more faults")


def test_fields_that_are_not_known_are_ignored(tmp_path):
    (file,) = read_results([changed(tmp_path / "x.json", lambda file: file.update(note="mine"))]).files
    assert file.found == examples.asr_comparison()


def test_figures_and_times_may_be_absent(tmp_path):
    found = examples.asr_comparison()
    cell = replace(
        found.rows[0].cells[0],
        **dict.fromkeys(("flops_reduction", "kept_ratio", "prefill_ms", "decode_ms", "unmet")),
        figures={},
        layer_rows=(),
    )
    rows = (replace(found.rows[0], cells=(cell,)), *found.rows[1:])
    (file,) = read_results([write(tmp_path / "compare.json", replace(found, rows=rows))]).files
    (first,) = file.found.rows[0].cells
    assert (first.achieved_percent, first.latency_ms, first.figures) == (10, None, {})
    assert list(sections(read_results([tmp_path / "compare.json"])))


def test_files_of_one_name_go_by_their_paths(tmp_path):
    paths = [tmp_path / name / "tune.json" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        write(path, examples.tuning())
    assert [one.name for one in read_results([*paths, paths[0]]).files] == [str(path) for path in paths]


def test_settings_hold_the_options_of_any_backend():
    settings = replace(examples.SETTINGS, backend="hinted", backend_options={"hint": "fast", "level": 2})
    assert from_json(AnswerSettings, to_json(settings)) == settings
    assert from_json(AnswerSettings, to_json(examples.SETTINGS)) == examples.SETTINGS
