"""Options of a build and of a check: what makes no sense is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastadasp.evaluation.clips.clip import Clip
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.profiles import Profile, ProfileError
from fastadasp.profiles.errors import EngineError, OutputError, RequestError

FULL = Profile("full", "full")
CLIP = Clip("one", 1, "a.wav", Path("a.wav"), "asr", ("two",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "steam"}, "engine 'steam' is unknown; choose tensorrt-rtx, tensorrt"),
        (
            {"precision": "fp32"},
            "precision fp32: TensorRT has no fused attention for it; choose bf16 or fp16",
        ),
        ({"sm": 75}, "sm is 75: give a whole number of at least 80"),
        ({"max_audio_seconds": float("nan")}, "max_audio_seconds is nan: give a number of at least 1"),
        ({"max_audio_seconds": float("inf")}, "max_audio_seconds is inf: give a number of at least 1"),
        ({"max_beams": 0, "max_new_tokens": -1}, "max_beams is 0: .*; max_new_tokens is -1: "),
        ({"max_beams": 129}, "max_beams is 129: give at most 128"),
        ({"max_new_tokens": 10**9}, "max_new_tokens is 1000000000: give at most 1000000"),
    ],
)
def test_engines_that_cannot_be_are_refused_with_every_fault(options, message):
    with pytest.raises(EngineError, match=message):
        EngineOptions(**options)


def test_a_build_needs_profiles_of_different_names():
    with pytest.raises(ProfileError, match="no profile is given; the unreduced model is: --profile full"):
        BuildOptions(())
    with pytest.raises(ProfileError, match="profile full is given twice; names must differ"):
        BuildOptions((FULL, FULL))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantize": "int8", "calibration": (CLIP,)}, "calibration beside int8: only int4"),
        ({"calibration": (CLIP,)}, "calibration beside no format: only int4"),
        ({"quantize": "int4", "calibration": ()}, "no clip to calibrate with"),
    ],
)
def test_clips_quantise_int4_alone(given, message):
    with pytest.raises(RequestError, match=message):
        BuildOptions((FULL,), **given)


def test_a_build_takes_its_weights_in_a_known_way():
    with pytest.raises(OutputError, match="weights 'carve' is unknown; choose link, copy"):
        BuildOptions((FULL,), weights="carve")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("onnxruntime", "abacus"), "target 'abacus' is unknown; choose onnxruntime"),
        (
            ("onnxruntime", "onnxruntime"),
            "targets onnxruntime, onnxruntime: give at least one, and each once",
        ),
        ((), "targets none: give at least one"),
    ],
)
def test_a_build_is_for_known_targets(targets, message):
    with pytest.raises(RequestError, match=message):
        BuildOptions((FULL,), targets=targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int3"}, "quantize 'int3' is unknown; choose int8, int4"),
        ({"quantize": "int4", "int4_block": 48}, "int4_block 48 is unknown; choose 32, 64, 128"),
        ({"quantize": "int8", "int4_block": 64}, "int4_block 64: it is for quantize int4; leave"),
        ({"quantize": "int4", "int4_block": 64, "engines": EngineOptions()}, "int4_block 64: engines have"),
        (
            {"quantize": "int4", "engines": EngineOptions(), "calibration": (CLIP,)},
            "calibration beside engines",
        ),
    ],
)
def test_a_build_quantises_in_a_known_format_and_by_clips_beside_no_engines(options, message):
    with pytest.raises(RequestError, match=message):
        BuildOptions((FULL,), **options)


def test_a_check_is_of_known_backends():
    with pytest.raises(RequestError, match="backend 'magic', 'abacus' is unknown; known: onnxruntime, onnx"):
        CheckOptions(backends=("onnxruntime", "magic", "abacus"))
