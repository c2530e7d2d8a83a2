"""Graphs for other tools of TensorRT: plugin nodes, no function bodies, and nothing half-written."""

from __future__ import annotations

from fractions import Fraction

import onnx
import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.export.engines.graphs_only import write_tensorrt_graphs
from fastadasp.profiles import Profile, ProfileError, load_profile
from fastadasp.profiles.errors import OutputError


def test_the_command_writes_graphs_that_hold_plugins_and_find_their_weights(tiny_checkpoint, tmp_path):
    output = tmp_path / "graphs"
    arguments = ["plugins", "graphs", tiny_checkpoint, "-o", output, "--profile", "dense-constant-20"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--precision", "fp16"])
    assert result.exit_code == 0, result.output
    paths = result.output.split()
    assert {path.rpartition("/")[2] for path in paths} == {
        *("encoder.onnx", "decode.onnx", "prefill.dense-constant-20.onnx")
    }
    for path in paths:
        assert not onnx.load(path).functions  # with its weights: the files are there and whole
    prefill = onnx.load(output / "prefill.dense-constant-20.onnx", load_external_data=False)
    plugins = {node.op_type for node in prefill.graph.node if node.domain == "fastadasp"}
    assert plugins == {"AttentionMass", "MergeTokens"}


def test_a_folder_that_exists_is_left_alone(tiny_checkpoint, tmp_path):
    with pytest.raises(OutputError, match="exists; give another folder"):
        write_tensorrt_graphs(tiny_checkpoint, tmp_path, [load_profile("full")], "bf16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("a_tome", "how many rows are left depends on the data"),
        ("h2o", "tensorrt has no plugin that sums attention by head"),
    ],
)
def test_a_profile_without_a_plugin_is_refused_and_nothing_is_left(tiny_checkpoint, tmp_path, method, reason):
    profile = Profile("mine", method, "constant", 1, ratio=Fraction(1, 4))
    with pytest.raises(ProfileError, match=reason):
        write_tensorrt_graphs(tiny_checkpoint, tmp_path / "graphs", [profile], "bf16")
    assert not list(tmp_path.iterdir())
