"""`check` on engines, over a stand-in for the GPU: they agree, or the layer is named by its outputs."""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file

from fake_tensorrt import FakeDevice, FakeTensorRT, with_engines
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime.tensorrt import sessions
from fastadasp.runtime.tensorrt.sessions import Platform

ON_TENSORRT = CheckOptions(backends=("tensorrt",))
OVERFLOWS_IN_FP16 = 1e5
NAME = "language_model.model.layers.2.self_attn.v_proj.bias"


def checked(monkeypatch, artifact, activation):
    platform = Platform(FakeTensorRT(artifact, activation), FakeDevice())
    monkeypatch.setattr(sessions, "open_platform", lambda product: platform)
    return check_artifact(artifact, ON_TENSORRT)


@pytest.mark.parametrize(("activation", "precision"), [("BF16", "bf16"), ("HALF", "fp16")])
def test_engines_that_are_right_agree_within_the_tolerance_of_their_format(
    monkeypatch, tiny_artifact, tmp_path, activation, precision
):
    artifact = with_engines(tiny_artifact, tmp_path / "artifact", precision=precision)
    verdicts = checked(monkeypatch, artifact, activation)
    assert {str(verdict.graph) for verdict in verdicts} >= {"encoder", "decode", "prefill.own-30"}
    assert all(verdict.finding.passed for verdict in verdicts)
    assert {verdict.backend for verdict in verdicts} == {"tensorrt"}
    assert max(verdict.finding.error for verdict in verdicts) > 0  # 16 bits were rounded somewhere


def test_a_value_that_overflows_in_fp16_is_named_with_its_layer_and_the_remedy(
    monkeypatch, tiny_checkpoint, tmp_path
):
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    tensors[NAME][0] = OVERFLOWS_IN_FP16
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    options = BuildOptions((load_profile("full"),), weights="copy")
    build(checkpoint, tmp_path / "source", options)
    artifact = with_engines(tmp_path / "source", tmp_path / "artifact", precision="fp16")
    verdicts = checked(monkeypatch, artifact, "HALF")
    where = next(verdict.where for verdict in verdicts if str(verdict.graph) == "prefill.full")
    assert where.startswith("first differs in layer 2, cached values: not finite; fp16 overflow: build with")
    assert where.endswith("everything up to layer 2, rotated keys agrees")
