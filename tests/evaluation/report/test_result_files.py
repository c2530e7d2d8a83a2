"""Files are told apart by their content, and every fault of every file is named."""

from __future__ import annotations

import json

import pytest

from fastadasp.evaluation.report.files.result_files import READERS, read_results
from fastadasp.profiles.errors import ResultsError

from . import examples
from .conftest import write


def faults(*paths):
    with pytest.raises(ResultsError) as caught:
        read_results(paths)
    return caught.value.faults


def test_each_kind_of_file_is_recognised(results):
    assert {source.kind for source in results.sources} == set(READERS)


def test_figures_are_read_in_the_units_that_people_read(results):
    asr, translation = results.comparisons
    wer = asr.full.figure(asr.metrics[0]).estimate
    assert (wer.value, wer.low) == pytest.approx((2.21, 2.0216))
    assert asr.metrics[0].heading == "WER, %"
    assert translation.full.figure(translation.metrics[0]).estimate.value == pytest.approx(41.46)
    assert translation.metrics[0].heading == "BLEU"


def test_a_benchmark_of_an_earlier_version_names_no_kind_and_is_read(real_files, tmp_path):
    content = json.loads(real_files[1].read_text("utf-8"))
    assert content.pop("kind") == "bench"
    found = read_results([write(tmp_path / "old.json", content)])
    assert [source.kind for source in found.sources] == ["bench"]


def test_all_faulty_files_are_reported_together(tmp_path, files_by_hand):
    other = write(tmp_path / "other.json", {"kind": "golden", "format_version": 1})
    newer = write(tmp_path / "newer.json", {**examples.tuning(), "format_version": 2})
    nameless = write(tmp_path / "nameless.json", {"model": {}})
    listed = write(tmp_path / "list.json", [1])
    infinite = tmp_path / "infinite.json"
    infinite.write_text('{"kind": "eval", "x": NaN}')
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe")
    broken = tmp_path / "broken.json"
    broken.write_text('{"kind"')
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    missing = tmp_path / "missing.json"
    found = faults(
        other, files_by_hand[0], newer, nameless, listed, infinite, binary, broken, deep, missing, tmp_path
    )
    assert len(found) == 10
    expected = (
        "other.json: is of kind 'golden'; known are bench, eval",
        "newer.json: is a tune file of format version 2; known is 1",
        "nameless.json: names no kind",
        "list.json: the file is [1], not an object",
        "infinite.json: holds NaN",
        "binary.json: is no text",
        "broken.json: is no JSON",
        "deep.json: is nested too deeply",
        "missing.json: No such file",
        "Is a directory",
    )
    assert all(words in fault for words, fault in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda file: file.pop("task"), "task is missing"),
        (lambda file: file["rows"][1]["cells"][2].update(level="30"), "cells[2].level is '30', not a number"),
        (lambda file: file["full"].update(layer_rows=[1, None]), "full.layer_rows[1] is None, not a number"),
        (lambda file: file["full"]["figures"]["wer"].update(value=True), "wer.value is True, not a number"),
        (lambda file: file["rows"][0].update(label=[]), "rows[0].label is [], not a text"),
        (lambda file: file.update(metrics={}), "metrics is {}, not a list"),
        (lambda file: file.update(clips=10**400), "clips is 1000"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_place(change, fault, tmp_path):
    content = examples.asr_comparison()
    change(content)
    (found,) = faults(write(tmp_path / "compare.json", content))
    assert fault in found


def test_figures_and_times_may_be_null(tmp_path):
    content = examples.asr_comparison()
    cell = content["rows"][0]["cells"][0]
    cell.update(dict.fromkeys(("achieved_flops_percent", "kept_ratio", "prefill_ms", "decode_ms", "unmet")))
    cell.update(figures={}, layer_rows=[])
    (found,) = read_results([write(tmp_path / "compare.json", content)]).comparisons
    first = found.rows[0].cells[0]
    assert (first.at, first.latency_ms, first.figure(found.metrics[0]).estimate) == (10, None, None)


def test_files_of_one_name_go_by_their_paths(tmp_path):
    paths = [tmp_path / name / "tune.json" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        write(path, examples.tuning())
    assert [one.source.name for one in read_results([*paths, paths[0]]).tunings] == [str(p) for p in paths]
