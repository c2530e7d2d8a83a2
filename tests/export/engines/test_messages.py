"""What a build and its worker say to each other comes out of the pipe as it went in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastadasp.export.engines.messages import (
    EngineRequest,
    Expected,
    OptimizationProfile,
    Outcome,
    Step,
    answer_from_json,
)

REQUEST = EngineRequest(
    product="tensorrt_rtx",
    name="prefill.ä full f00d",
    graph=Path("/artifact/engines/.scratch/prefill.full.onnx"),
    plan=Path("/artifact/engines/prefill.full.plan"),
    profile=OptimizationProfile({"audio_embeds": ((1, 64), (100, 64), (200, 64)), "ids": ((1,), (2,), (3,))}),
    sm=80,
    plugins=Path("/artifact/engines/.scratch/plugins.so"),
    expected=Expected({"AttentionMass": 2, "MergeTokens": 2}, 3, causal=True, quantized={"int4": 7}),
    reproducible=True,
)


@pytest.mark.parametrize(
    "request_", [REQUEST, replace(REQUEST, plugins=None, reproducible=False)], ids=["with plugins", "without"]
)
def test_a_request_is_the_same_on_the_other_side(request_):
    line = request_.to_json()
    assert "\n" not in line
    found = EngineRequest.from_json(line)
    assert found == request_
    assert [type(value) for value in vars(found).values()] == [
        type(value) for value in vars(request_).values()
    ]


def test_what_the_worker_is_told_does_not_depend_on_the_place_of_the_artifact():
    moved = replace(
        REQUEST,
        graph=Path("/elsewhere/engines/.scratch/prefill.full.onnx"),
        plan=Path("/elsewhere/engines/prefill.full.plan"),
        plugins=Path("/elsewhere/engines/.scratch/plugins.so"),
    )
    told, again = (each.seen_from(each.graph.parent) for each in (REQUEST, moved))
    assert told.to_json() == again.to_json()
    assert (told.graph, told.plan) == (Path("prefill.full.onnx"), Path("../prefill.full.plan"))
    assert told.plugins == Path("plugins.so")
    assert replace(REQUEST, plugins=None).seen_from(Path("/artifact")).plugins is None


@pytest.mark.parametrize("answer", [Step("Building", 3, 7), Outcome("1.7.1", 12345), Outcome("10.14", None)])
def test_what_the_worker_answers_is_the_same_on_the_other_side(answer):
    assert answer_from_json(answer.to_json()) == answer
