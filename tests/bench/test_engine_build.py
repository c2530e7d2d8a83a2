"""A build of engines takes the place of the same one in its file, and the page shows all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine_build import MODELS, write
from page import engine_build


def build(model: str, form: str, seconds: float) -> dict[str, Any]:
    plan = {"seconds": seconds, "plan_bytes": 2_500_000, "peak_bytes": 300_000_000}
    environment = {"cpu": "A CPU", "cores": 2, "load_average": [0.5, 0.5, 0.5]}
    named = {"model": MODELS[model], "format": form, "product": "tensorrt_rtx 1.7", "sm": 80}
    return {**named, "environment": environment, "whole_build_s": 2 * seconds, "plans": {"decode": plan}}


def test_a_build_that_is_measured_again_replaces_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "results" / "engine_build.json"
    for found in (build("larger", "bf16", 9.0), build("demo", "int4", 2.0), build("demo", "bf16", 1.0)):
        write(file, found)
    write(file, build("demo", "int4", 3.0))
    result = json.loads(file.read_text("utf-8"))
    named = [(each["model"], each["format"], each["whole_build_s"]) for each in result["builds"]]
    assert named == [
        *(("demo", "bf16", 2.0), ("demo", "int4", 6.0)),
        ("24 layers, width 1024", "bf16", 18.0),
    ]
    shown = engine_build(result)
    assert "| demo | decode | 2.5 MB, 0.30 GB | 2.5 MB, 0.30 GB |" in shown
    assert "| 24 layers, width 1024 | decode | 2.5 MB, 0.30 GB | not built |" in shown
    assert "* demo, int4: 6 s, of them engines 3 s; load average 0.5 when it began" in shown
