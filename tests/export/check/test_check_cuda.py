"""Graphs for the CUDA provider against the reference in torch, on the CPU provider."""

from __future__ import annotations

from fractions import Fraction

import pytest
from click.testing import CliRunner

from demo_files import CLIPS, DEMO
from every_way import ON_DEVICES, every_way
from fastadasp.evaluation.clips.read import read_clips_of_any_task
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.matrices import check_matrices
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile, load_profile
from fastadasp.profiles.errors import RequestError
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact

CUDA = "onnxruntime-cuda"
METHODS = [
    load_profile("full"),
    *(Profile(name, **way, ratio=Fraction(1, 5)) for name, way in every_way(1, ON_DEVICES).items()),
]
TWO_METHODS = [it for it in METHODS if it.name in ("weighted_merge", "h2o")]


@pytest.mark.parametrize(
    ("precision", "quantize", "methods"),
    [
        ("fp32", None, METHODS),
        ("fp32", "int8", METHODS),
        ("fp32", "int4", METHODS),
        ("fp16", None, TWO_METHODS),
        ("fp16", "int4", TWO_METHODS),
    ],
    ids=["fp32", "fp32 int8", "fp32 int4", "fp16", "fp16 int4"],
)
def test_methods_are_as_far_from_the_reference_as_their_numbers_allow(
    tiny_checkpoint, tmp_path, precision, quantize, methods
):
    formats = {"precision": precision, "quantize": quantize}
    options = BuildOptions(tuple(methods), weights="copy", targets=(CUDA,), **formats)
    build(tiny_checkpoint, tmp_path / "art", options)
    found = check_artifact(open_artifact(tmp_path / "art"), CheckOptions(backends=(CUDA,), device="cpu"))
    assert {verdict.profile for verdict in found} == {None, *(profile.name for profile in methods)}
    assert not [verdict for verdict in found if not verdict.finding.passed]
    if precision == "fp32":
        assert {str(verdict.tolerance) for verdict in found} == {"0.001"}


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("fp16", {"quantize": "int8"}),
        ("bf16", {"quantize": "int4", "int4_block": 128}),
        ("fp16", {"quantize": "int4", "calibration": 1}),
    ],
    ids=["int8", "large blocks", "calibrated"],
)
def test_stored_matrices_are_near_those_of_the_checkpoint_and_a_wrong_scale_is_found(
    tmp_path, precision, options
):
    options = {**options, "targets": (CUDA,), "precision": precision}
    if count := options.get("calibration"):
        options["calibration"] = read_clips_of_any_task(DEMO / "clips/transcripts.jsonl")[:count]
    build(DEMO / "model", tmp_path / "art", BuildOptions((load_profile("full"),), **options))
    artifact = open_artifact(tmp_path / "art")
    assert all(found.passed for found in check_matrices(artifact, DEMO / "model"))
    graphs = artifact.manifest.graphs[CUDA]
    places = artifact.weights(graphs).decoder
    name = next(name for name in places if "up_proj" in name and name.endswith(".scales"))
    place = places[name]
    assert place.precision == precision
    with artifact.path(place.file).open("r+b") as stream:
        stream.seek(place.offset)
        scale = int.from_bytes(stream.read(2), "little") + (1 << (7 if precision == "bf16" else 10))
        stream.seek(place.offset)
        stream.write(scale.to_bytes(2, "little"))  # twice as large
    wrong = [found for found in check_matrices(artifact, DEMO / "model") if not found.passed]
    assert [found.name for found in wrong] == [name.partition(".int")[0]]


def test_a_device_is_for_backends_that_have_one():
    with pytest.raises(RequestError, match="device cpu: onnxruntime has no choice of it; leave it out"):
        CheckOptions(device="cpu")


def test_the_demo_answers_the_same_in_fp16(tmp_path):
    art, clip = tmp_path / "art", CLIPS.parent / "digits-01.flac"
    command = ["build", str(DEMO / "model"), "-o", str(art), "--profile", "dense-constant-50"]
    command += ["--target", f"onnxruntime,{CUDA}", "--precision", "fp16"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "weights in float32 converted; in fp16 hard-linked to the checkpoint" in result.stdout
    command = ["run", str(art), str(clip), "--backend", CUDA, "--device", "cpu"]
    answer = CliRunner().invoke(main, command).stdout.strip()
    with SpeechLM.load(art, threads=1) as model:
        assert answer == model.generate(clip).text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["--target", f"onnxruntime,{CUDA}", "--quantize", "int8"],
            f"quantize int8: each of onnxruntime, {CUDA} has matrices in forms of its own; build an artifact",
        ),
        (
            ["--quantize", "int4", "--engine", "tensorrt-rtx"],
            f"quantize int4: engines have matrices of other forms than graphs for {CUDA}; build an artifact",
        ),
        (["--target", "onnxruntime", "--precision", "fp16"], "give --engine tensorrt-rtx or --target onnxr"),
        (["--target", "abacus"], "target 'abacus' is unknown; choose onnxruntime, onnxruntime-cuda"),
    ],
)
def test_what_a_target_cannot_give_is_refused(tiny_checkpoint, tmp_path, given, words):
    target = [] if "--target" in given else ["--target", CUDA]
    command = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "ART"), "--profile", "full"]
    result = CliRunner().invoke(main, [*command, *target, *given])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
