"""A script that takes times refuses a machine on which other work runs, and a file it could not add to."""

from __future__ import annotations

import json
import os
import sys

import compare
import compare_peers
import encoder
import pytest


@pytest.mark.parametrize("parsed", [compare.main, compare_peers._arguments, encoder.main])
def test_other_work_is_refused_unless_it_was_said_to_measure_nevertheless(parsed, monkeypatch, capsys):
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 0.0, 0.0))
    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(SystemExit):
        parsed()
    assert "the load average is 2.5, above 2: wait for other work, or give --busy" in capsys.readouterr().err


@pytest.mark.parametrize(("load", "words"), [(2.0, []), (2.5, ["--busy"])])
def test_what_may_be_measured_is(load, words, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0))
    monkeypatch.setattr(sys, "argv", ["script", *words])
    assert compare_peers._arguments().busy == bool(words)


def test_a_file_of_an_earlier_version_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    output = tmp_path / "compare.json"
    old = {"system": "ours full", "seconds": 120, "beams": 1, "total": 5.0}
    output.write_text(json.dumps({"latency": {"records": [old]}, "memory": {"records": []}}))
    words = ["script", "--busy", "-o", str(output), "--parts"]
    monkeypatch.setattr(sys, "argv", [*words, "overhead"])
    with pytest.raises(SystemExit):
        compare.main()
    told = " ".join(capsys.readouterr().err.split())
    assert f"{output}: its latency is that of an earlier version of this script, without 'total_cpu'" in told
    assert "measure it as well, with --parts latency, or give another --output" in told
    monkeypatch.setattr(sys, "argv", [*words, "overhead", "latency"])
    assert compare._arguments().parts == ["overhead", "latency"]
