"""A script that takes times refuses a machine on which other work runs."""

from __future__ import annotations

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
