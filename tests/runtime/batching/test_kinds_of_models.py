"""Every kind of decoder that ONNX Runtime runs decodes requests together as it decodes each alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import noise
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import GenerationResult, PromptIds, SpeechLM
from torch_wavllm import TorchWavLLM

from .answers import SCORE_ATOL, assert_same
from .meeting import meet

LONG_WAIT = 60.0
QUANTIZED_ATOL = 1e-2  # activations are rounded to int8: the last bit of one may be a step of another
QUANTIZED_TOKENS, TOKENS = (
    6,
    20,
)  # such steps add up, and tokens of random weights are nearly as good as others
PROFILES = (
    Profile("full", "full"),
    Profile("h2o", "h2o", "constant", 0, ratio=Fraction(1, 2)),
    Profile("kept", "weighted_merge", "constant", 1, ratio=Fraction(1, 3), positions="kept"),
)


def both_ways(
    model: SpeechLM, calls: list[Callable[[Any], Any]]
) -> list[tuple[GenerationResult, GenerationResult]]:
    """Each answer together with the others, and alone."""
    alone = [call(model.generate) for call in calls]
    with pytest.MonkeyPatch.context() as patch:
        meet(patch, model, len(calls))
        requests = [call(model.submit) for call in calls]
        return [(request.result(LONG_WAIT), each) for request, each in zip(requests, alone, strict=True)]


@pytest.mark.parametrize(
    "given",
    [{}, {"kv_precision": "fp16"}, {"quantize": "int8"}, {"quantize": "int4"}],
    ids=lambda it: next(iter(it.values()), "fp32"),
)
def test_formats_of_weights_and_keys(
    tiny_checkpoint: Path,
    tmp_path: Path,
    batches: list[int],
    given: dict[str, Any],
) -> None:
    build(tiny_checkpoint, tmp_path / "artifact", BuildOptions(PROFILES, weights="copy", **given))
    with SpeechLM.load(tmp_path / "artifact", threads=1) as model:
        heard = [model.encode(noise(seconds)) for seconds in (1.0, 4.0)]
        tokens = QUANTIZED_TOKENS if "quantize" in given else TOKENS
        asked = [
            {"profile": profile.name, "num_beams": beams, "max_new_tokens": tokens, "eos_token_ids": ()}
            for profile, beams in product(PROFILES, (1, 3))
        ]
        pairs = both_ways(
            model,
            [
                lambda call, i=i, options=options: call(heard[i % 2], "hello", **options)
                for i, options in enumerate(asked)
            ],
        )
        atol = QUANTIZED_ATOL if "quantize" in given else SCORE_ATOL
        for found, alone in pairs:
            assert_same(found, alone, atol)
    assert max(batches) > 2


def test_strengths_of_lora_are_those_of_each_prompt(tmp_path: Path, batches: list[int]) -> None:
    TorchWavLLM(seed=1).save(tmp_path / "checkpoint")
    build(tmp_path / "checkpoint", tmp_path / "artifact", BuildOptions(PROFILES[:1], weights="copy"))
    rng = np.random.default_rng(0)
    prompts = [
        PromptIds(rng.integers(3, 200, 4), rng.integers(3, 200, 5), rng.integers(3, 200, 6)) for _ in range(2)
    ]
    with SpeechLM.load(tmp_path / "artifact", threads=1) as model:
        heard, asked = model.encode(noise(2.0)), {"max_new_tokens": 16, "eos_token_ids": ()}
        calls: list[Callable[[Any], Any]] = [
            lambda call, prompt=prompt: call(heard, prompt, **asked) for prompt in prompts * 2
        ]
        pairs = both_ways(model, calls)
        for found, alone in pairs:
            assert_same(found, alone)
        assert pairs[0][1].hypotheses[0].tokens != pairs[1][1].hypotheses[0].tokens
    assert max(batches) == 2
