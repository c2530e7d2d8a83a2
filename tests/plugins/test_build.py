"""The plugin library: what it holds, how TensorRT finds it, and which shapes it promises.

TensorRT runs in a process of its own, because a fault of it ends the process.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from fastadasp.plugins.compile import KERNELS

for module in ("triton", "onnx", "tensorrt_rtx"):
    pytest.importorskip(module, reason=f"{module} is not installed")
if shutil.which("g++") is None:
    pytest.skip("g++ is not installed", allow_module_level=True)

SHARED_OF_SM80 = 164 << 10
START_OFFSET, END_OFFSET = 2, 1
REDUCERS = {"MergeTokens": ["key", "mass"], "MergeEdges": ["score", "mass"], "EvictTokens": ["score"]}
WIDTHS = {"hidden": 96, "positions": 1}  # rows of an activation, and what goes the way of them in float32
CASES = (
    (100, 5, 7, 1, 2),
    (100, 5, 7, 0, 1),
    (10, 3, 4, 1, 2),
    (10, 4, 4, 1, 2),
    (1500, 9, 3, 3, 10),
    (1500, 9, 3, 2**31 - 3, 2**31 - 1),
    (100001, 9, 3, 1234567891, 2**31 - 1),
)

PROGRAM = f"""
import ctypes, json, sys
from pathlib import Path
import onnx.helper as oh
import tensorrt_rtx as trt
from onnx import TensorProto as T
from fastadasp.plugins.tensorrt_library import creators, load_plugins, provide_parser_library

logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
library = Path(sys.argv[1])

def model(rows, before, after, numerator, denominator, version="1", kind=T.FLOAT16, score="score"):
    own = dict(domain="fastadasp", plugin_namespace="fastadasp", plugin_version=version)
    cut = dict(numerator=numerator, denominator=denominator)
    cut |= dict(start_offset={START_OFFSET}, end_offset={END_OFFSET})
    types = dict(hidden=kind, positions=T.FLOAT)
    nodes, reduced = [oh.make_node("AttentionMass", ["query", "key"], ["mass"], **own)], dict()
    for name, inputs in {REDUCERS}.items():
        for moved, dtype in types.items():
            output = moved + " of " + name
            nodes.append(oh.make_node(name, [moved, *inputs, "before", "after"], [output], **own, **cut))
            reduced[output] = dtype
    value = oh.make_tensor_value_info
    inputs = [value("query", kind, [rows, 128]), value("key", kind, [2, rows, 32])]
    inputs += [value(name, types[name], [rows, width]) for name, width in {WIDTHS}.items()]
    inputs += [value("score", T.FLOAT, [score])]
    inputs += [value("before", T.INT64, [before]), value("after", T.INT64, [after])]
    outputs = [value("mass", T.FLOAT, [rows]), *(value(*output, None) for output in reduced.items())]
    graph = oh.make_graph(nodes, "g", inputs, outputs)
    opsets = [oh.make_opsetid("", 20), oh.make_opsetid("fastadasp", 1)]
    return oh.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()

def parsed(*arguments, **options):
    provide_parser_library()
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parser.parse(model(*arguments, **options))
    return network, parser

def plan(kind, longest=1600):
    network, parser = parsed("rows", "before", "after", 3, 10, kind=kind)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM80, 0)
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        sizes = [[length if d < 0 else d for d in tensor.shape] for length in (8, 512, longest)]
        if tensor.name in ("before", "after", "score"):
            sizes = [[length] for length in (1, 16, 64)]
        profile.set_shape(tensor.name, *sizes)
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config) is not None
"""


def tensorrt(library, program, check=True):
    """Run `program` after PROGRAM; what it prints last is JSON."""
    command = [sys.executable, "-c", PROGRAM + program, str(library)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]) if check else ran


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    from fastadasp.plugins.build import build_plugins

    return build_plugins(tmp_path_factory.mktemp("plugins"), sms=(80, 90))


NAMES = [[name, "1", "fastadasp"] for name in ("AttentionMass", "EvictTokens", "MergeEdges", "MergeTokens")]


@pytest.mark.parametrize("way", ["load_plugins(library, trt)", "ctypes.CDLL(str(library))"])
def test_the_plugins_are_registered_however_the_library_is_loaded(built, way):
    found = tensorrt(built.path, f"{way}\nprint(json.dumps(sorted(creators(trt.get_plugin_registry()))))")
    assert found == NAMES


def test_tensorrt_loads_the_library_after_it_registered_itself(built):
    program = (
        "ctypes.CDLL(str(library))\nregistry = trt.get_plugin_registry()\n"
        "handle = registry.load_library(str(library))\n"
        "print(json.dumps([handle is not None, sorted(creators(registry))]))"
    )
    assert tensorrt(built.path, program) == [True, NAMES]


def test_output_lengths_are_exact(built):
    program = (
        f"load_plugins(library, trt)\nfound = []\nfor case in {CASES}:\n"
        "    network, parser = parsed(*case)\n"
        "    found.append([list(network.get_output(i).shape) for i in range(network.num_outputs)])\n"
        "print(json.dumps(found))"
    )
    for case, (mass, *reduced) in zip(CASES, tensorrt(built.path, program), strict=True):
        rows, before, after, numerator, denominator = case
        length = max(rows - before - START_OFFSET - after - END_OFFSET, 0)
        assert mass == [rows]
        kept = rows - length * numerator // denominator
        assert reduced == [[kept, width] for width in WIDTHS.values()] * len(REDUCERS), case


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_a_plan_with_every_plugin_is_built_for_sm80(built, kind):
    """Its bytes are not compared: TensorRT-RTX 1.7 does not always write a plan twice alike."""
    assert tensorrt(built.path, f"load_plugins(library, trt)\nprint(json.dumps(plan(T.{kind})))")


def test_more_elements_than_the_kernels_can_count_are_refused_by_name(built):
    program = "load_plugins(library, trt)\nprint(json.dumps(plan(T.FLOAT16, longest=2**24)))"
    ran = tensorrt(built.path, program, check=False)
    assert "AttentionMass: query (16777216, 128) has more than 2^31 - 1 elements" in ran.stdout + ran.stderr


def test_a_node_of_another_version_is_refused_by_name(built):
    program = (
        "load_plugins(library, trt)\n"
        "network, parser = parsed(100, 5, 7, 1, 2, version='9')\n"
        "print(json.dumps([str(parser.get_error(i)) for i in range(parser.num_errors)]))"
    )
    errors = tensorrt(built.path, program)
    assert any("AttentionMass" in error and "version" in error for error in errors), errors


def test_a_ratio_outside_zero_to_one_is_refused_by_name(built):
    program = "load_plugins(library, trt)\nparsed(100, 5, 7, 2, 2)\nprint(json.dumps(0))"
    ran = tensorrt(built.path, program, check=False)
    assert "ratio 2/2 is not in [0, 1)" in ran.stdout + ran.stderr


def test_a_missing_library_is_named(tmp_path):
    import tensorrt_rtx

    from fastadasp.plugins.tensorrt_library import load_plugins
    from fastadasp.profiles.errors import DependencyError

    with pytest.raises(DependencyError, match=r"none\.so: no such plugin library; build it"):
        load_plugins(tmp_path / "none.so", tensorrt_rtx)


def test_missing_plugins_and_other_versions_are_all_named(tmp_path):
    from types import SimpleNamespace

    from fastadasp.plugins.tensorrt_library import check_creators
    from fastadasp.profiles.errors import DependencyError

    old = SimpleNamespace(name="MergeTokens", plugin_version="0", plugin_namespace="fastadasp")
    with pytest.raises(DependencyError, match=r"AttentionMass is missing; .*MergeTokens has version 0"):
        check_creators(SimpleNamespace(all_creators=[old]), tmp_path / "old.so")


def test_missing_headers_are_named_with_the_remedy(tmp_path, monkeypatch):
    from fastadasp.plugins import build
    from fastadasp.profiles.errors import DependencyError

    monkeypatch.setattr(build, "_tensorrt_places", lambda: iter([tmp_path]))
    with pytest.raises(DependencyError, match="TENSORRT_INCLUDE_DIR"):
        build.build_plugins(tmp_path)


def test_no_kernel_spills_and_all_fit_the_shared_memory(built):
    """That of an A100; an H100 has more."""
    assert built.sms == (80, 90)
    for sm in built.sms:
        names = {kernel.name for kernel in built.resources if kernel.sm == sm}
        assert names == set(KERNELS)
    for kernel in built.resources:
        assert kernel.registers > 0, kernel
        assert kernel.spill_bytes == 0, kernel
        assert kernel.shared_bytes <= SHARED_OF_SM80, kernel


def test_the_command_line_builds_the_same_library_byte_for_byte(built, tmp_path):
    from click.testing import CliRunner

    from fastadasp.export.cli import main

    ran = CliRunner().invoke(main, ["plugins", "build", "-o", str(tmp_path), "--sm", "90", "--sm", "80"])
    assert ran.exit_code == 0, ran.output
    assert "compute capability 8.0, 9.0" in ran.output
    again = tmp_path / built.path.name
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (built.path, again))
    assert first == second
