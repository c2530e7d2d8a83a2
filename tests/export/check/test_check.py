"""`check` on the demo: torch and ONNX Runtime agree, and one wrong weight is found and named."""

from __future__ import annotations

import shutil

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from demo_files import DEMO
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime.artifact.artifact import open_artifact

pytestmark = pytest.mark.usefixtures("one_thread")
PROFILES = ("full", "dense-constant-50", "dense-decay-50", "sparse-50")
CLIP = DEMO / "clips/dates-01.flac"
BAD_LAYER = "language_model.model.layers.5"


def check(*arguments):
    """Exit code and lines of the command."""
    result = CliRunner().invoke(main, ["check", *map(str, arguments)], env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output.splitlines()


def rows_of(lines):
    """The rows of the tables as lists of words, each ending in ok or FAIL."""
    return [line.split() for line in lines if line.endswith((" ok", " FAIL"))]


def build_demo(output, checkpoint=DEMO / "model", profiles=PROFILES):
    build(checkpoint, output, BuildOptions(tuple(map(load_profile, profiles)), weights="copy"))
    return output


def test_every_output_of_the_demo_is_within_1e_3_of_torch(tmp_path):
    artifact = build_demo(tmp_path / "artifact")
    code, lines = check(artifact, "--clip", CLIP)
    rows = rows_of(lines)
    assert code == 0, lines
    assert "tolerance 0.001" in lines[0]
    assert all(float(row[-2]) <= 1e-3 for row in rows)
    for profile in PROFILES:
        inputs = [" ".join(row) for row in rows if profile in row]
        for graph, case in [("prefill", "dates-01"), ("prefill", "random"), ("prefill", "1 audio row")]:
            assert any(line.startswith(f"{graph} {profile} {case}") for line in inputs)
        assert sum(line.startswith("decode") for line in inputs) == 2
    assert [row[1] for row in rows if row[0] == "encoder"] == ["dates-01", "random"]
    assert lines[-1] == f"{len(rows)} of {len(rows)} agree"


@pytest.mark.parametrize(
    ("weight", "prefill", "decode"),
    [
        ("self_attn.q_proj", "q_proj", "q_proj"),
        ("self_attn.o_proj", "o_proj", "o_proj"),
        ("mlp.gate_proj", "MLP", "gate_proj"),  # the prefill has the whole MLP in one op
        ("mlp.down_proj", "MLP", "down_proj"),
    ],
)
def test_one_wrong_weight_of_layer_5_is_found_and_named(tmp_path, weight, prefill, decode):
    changed = shutil.copytree(DEMO / "model", tmp_path / "changed")
    tensors = load_file(changed / "model.safetensors")
    tensors[f"{BAD_LAYER}.{weight}.weight"].view(-1)[7] += 0.5
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    artifact = open_artifact(build_demo(tmp_path / "artifact", changed, ["full"]))
    verdicts = check_artifact(artifact, CheckOptions(clips=(CLIP,), checkpoint=DEMO / "model"))
    assert [verdict.finding.passed for verdict in verdicts if verdict.graph.kind == "encoder"] == [True] * 2
    found = {verdict.graph.kind: verdict.where for verdict in verdicts if verdict.where}
    assert found.keys() == {"prefill", "decode"}
    for graph, part in [("prefill", prefill), ("decode", decode)]:
        assert found[graph].startswith(f"first differs in layer 5, {part}: error ")
        assert "everything up to layer 5, " in found[graph]


def test_a_mismatch_is_printed_in_the_table_and_as_one_line_and_the_exit_code_is_1(
    tiny_checkpoint, tmp_path, clip
):
    changed = shutil.copytree(tiny_checkpoint, tmp_path / "changed")
    tensors = load_file(changed / "model.safetensors")
    tensors["language_model.model.layers.2.self_attn.v_proj.bias"] += 1
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    build(changed, tmp_path / "artifact", BuildOptions((load_profile("full"),), weights="copy"))
    code, lines = check(tmp_path / "artifact", "--checkpoint", tiny_checkpoint, "--clip", clip)
    assert code == 1
    rows = rows_of(lines)
    assert {row[0] for row in rows if row[-1] == "FAIL"} == {"prefill", "decode"}
    assert lines[-1] == f"2 of {len(rows)} agree"  # the encoder
    starts = [line.partition(":")[0] for line in lines if "first differs in layer 2, v_proj" in line]
    assert starts == ["prefill.full on onnxruntime, clip", "decode on onnxruntime, clip"]


def test_without_clips_the_table_says_that_only_random_input_was_run(tiny_artifact, monkeypatch):
    monkeypatch.setattr("fastadasp.export.commands.check.demo_clips", tuple)
    code, lines = check(tiny_artifact, "--profile", "own-30")
    assert code == 0
    assert "Random input only: no clip was given; give some with --clip FILE" in lines
    assert {row[1] for row in rows_of(lines) if row[0] != "encoder"} == {"own-30"}
