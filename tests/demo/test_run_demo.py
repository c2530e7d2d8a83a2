"""`make demo` with short audio and few runs: builds, engines, answers and tables, to its end."""

from __future__ import annotations

import pytest

import run_demo


@pytest.mark.alone
def test_the_demo_runs_to_its_end(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")
    monkeypatch.setattr("sys.argv", ["run_demo.py", "--output", str(tmp_path / "demo")])
    for name, value in {"CLIP_SECONDS": 2, "LONG_SECONDS": 4, "RUNS": 1}.items():
        monkeypatch.setattr(run_demo, name, value)
    run_demo.main()
    shown = capsys.readouterr().out
    for part in (
        f"Built {tmp_path / 'demo'}"[:60],
        "prefill.dense-constant-50",
        "10 of 10",
        "dimanche mars sept",
        "4 s, 5 beams, full:",
        "Latency, ms: medians of 1 or more runs",
        "Try it",
    ):
        assert part in shown
