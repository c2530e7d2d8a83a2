"""The harness calls the plugin library without TensorRT, and believes no device that ran nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from acceptance import plugins
from acceptance.plugin_cases import Case, long_cases, small_cases
from acceptance.plugin_harness import Harness, open_harness
from acceptance.records import FAILED, HOST, NOT_HERE, Check, NotHereError, judged
from acceptance.stages import Context

from fastadasp.plugins.tensorrt_library import PLUGINS

FAKE_UUID = "fa" * 16
NO_DEVICE = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is here: run `make accept-gpu`")


@pytest.fixture(scope="module")
def harness(empty_library, tmp_path_factory):
    return open_harness(empty_library.path, tmp_path_factory.mktemp("harness"))


@pytest.fixture
def faked(harness, fake_driver, monkeypatch) -> Harness:
    """The harness over a driver whose kernels do nothing."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_driver))
    return replace(harness, device={"uuid": FAKE_UUID})


def case(plugin, kind="fp16", removed=None, rows=131):
    return next(
        each
        for each in small_cases()
        if each.plugin == plugin
        and each.output.type in (kind, "fp32")
        and next(iter(each.inputs.values())).type == kind
        and next(iter(each.inputs.values())).shape[0] == rows
        and (removed is None or each.span[2] == removed)
    )


def only(harness: Harness, each: Case) -> Check:
    (found,) = harness.checks([each])
    return found


def with_input(each: Case, name: str, **changes) -> Case:
    return replace(each, inputs={**each.inputs, name: replace(each.inputs[name], **changes)})


@NO_DEVICE
def test_it_finds_every_creator_and_says_why_there_is_no_device(harness):
    assert tuple(each["name"] for each in harness.creators) == PLUGINS
    assert {(each["version"], each["namespace"]) for each in harness.creators} == {("1", "fastadasp")}
    assert harness.device is None
    assert harness.why.startswith("no device: libcuda.so.1")


@NO_DEVICE
def test_every_case_passes_all_calls_that_need_no_device(harness):
    checks = list(harness.checks([*small_cases(), *long_cases()]))
    assert not [check for check in checks if not check.passed]
    assert {check.ran_on for check in checks} == {HOST}


def test_cases_cover_types_odd_lengths_and_production_sizes():
    found = [*small_cases(), *long_cases()]
    assert {each.plugin for each in found} == set(PLUGINS)
    for kind in ("fp32", "fp16", "bf16"):
        of_kind = [each for each in found if next(iter(each.inputs.values())).type == kind]
        assert {each.plugin for each in of_kind} == set(PLUGINS)
        assert any(each.inputs["query"].shape == (6000, 32 * 128) for each in of_kind if each.span is None)
        assert any(next(iter(each.inputs.values())).shape[0] % 2 for each in of_kind)


def promise(each: Case, rows: int) -> Case:
    return replace(each, output=replace(each.output, shape=(rows, *each.output.shape[1:])))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda each: replace(each, attributes={**each.attributes, "numerator": 118}),
            r"ratio 118/118 is not",
        ),
        (lambda each: replace(each, attributes={}), "has no int32 attribute numerator"),
        (lambda each: promise(each, 70), "getOutputShapes: another shape"),
        (
            lambda each: replace(each, output=replace(each.output, type="fp32")),
            "tensor 5 of this type is refused",
        ),
        (lambda each: with_input(each, "weight", shape=(130,)), "do not have equally many rows"),
        (lambda each: with_input(each, "key", shape=(2, 131, 200)), "heads of at most 128"),
        (lambda each: with_input(each, "weight", type="fp16"), "tensor 2 of this type is refused"),
        (lambda each: with_input(each, "key", shape=(2, 131)), "MergeTokens takes hidden"),
        (lambda each: replace(each, plugin="MergePairs"), "no creator MergePairs"),
    ],
)
def test_what_does_not_fit_is_a_fault_in_the_library_s_own_words(harness, change, fault):
    check = only(replace(harness, device=None), change(case("MergeTokens")))
    assert not check.passed
    assert fault in check.fault


def test_kernels_that_do_nothing_pass_nothing_that_they_should_have_written(faked):
    for plugin in PLUGINS:
        check = only(faked, case(plugin, rows=131))
        assert not check.passed
        assert check.ran_on == FAKE_UUID
        assert check.fault.startswith("error inf")


def test_rows_that_all_stay_are_copied_without_a_kernel_and_equal_the_reference(faked):
    check = only(faked, case("EvictTokens", removed=0, rows=64))
    assert check.passed, check.fault
    assert check.figures["error"] == 0


def test_the_plugins_hand_their_kernels_the_right_arguments_grid_and_memory(faked, monkeypatch):
    """The CPU runs every program of every launch; what a GPU makes of the kernels, this does not tell."""
    monkeypatch.setenv("FAKE_EMULATED", "1")
    checks = list(faked.checks(small_cases()))
    assert len(checks) > 60
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("sm", "fault"),
    [
        ("86", "error inf"),
        ("90", "error inf"),
        ("100", "for compute capability 10.0 in this library; build it with"),
        ("121", "`fastadasp-export plugins build --sm 121`"),
    ],
)
def test_kernels_for_a_hopper_run_on_no_later_gpu_not_even_as_ptx(faked, monkeypatch, sm, fault):
    """A kernel that is found does nothing here, which the comparison sees."""
    monkeypatch.setenv("FAKE_SM", sm)
    assert fault in only(faked, case("MergeEdges")).fault


def test_a_kernel_that_writes_behind_its_memory_is_caught(faked, monkeypatch):
    monkeypatch.setenv("FAKE_OVERRUN", "1")
    check = only(faked, case("MergeEdges"))
    assert check.fault == "enqueue wrote behind the end of a tensor or of its workspace"


def test_scores_of_another_length_are_refused_on_the_device(faked):
    each = case("MergeEdges")
    other = with_input(each, "score", shape=(5,), make=partial(np.zeros, 5, np.float32))
    assert "5 scores for 118 audio rows; 117 are needed" in only(faked, other).fault


def test_a_fault_of_one_case_does_not_reach_the_others(faked):
    """Each begins with a context of its own after a fault on the device."""
    good, bad = case("EvictTokens", removed=0, rows=64), case("MergeEdges")
    checks = list(faked.checks([good, bad, good, bad, bad, good]))
    assert [check.passed for check in checks] == [True, False, True, False, False, True]


def test_a_library_that_ends_the_process_is_a_fault(harness, tmp_path):
    program = tmp_path / "dies"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    check = only(replace(harness, program=program), case("MergeEdges"))
    assert "ended with -11" in check.fault


def test_the_cases_after_one_that_ended_the_process_are_still_run(harness, tmp_path):
    program = tmp_path / "dies"
    dies_once = f"test -e {tmp_path}/once || {{ touch {tmp_path}/once; kill -SEGV $$; }}"
    program.write_text(f'#!/bin/sh\n{dies_once}\nexec {harness.program} "$@"\n')
    program.chmod(0o755)
    checks = list(replace(harness, program=program).checks([case("MergeEdges"), case("MergeTokens")]))
    assert [check.passed for check in checks] == [False, True]


@pytest.fixture
def stage(empty_library, monkeypatch):
    """The findings of the stage over the empty library, and why it stopped."""

    def run(folder: Path):
        monkeypatch.setattr(plugins, "build_plugins", lambda *_: empty_library)
        monkeypatch.setattr(plugins, "long_cases", lambda: ())
        found, stopped = [], None
        try:
            found.extend(plugins.run(Context(folder, folder, None, None, None)))
        except NotHereError as error:
            stopped = NOT_HERE, str(error)
        return found, stopped

    return run


@NO_DEVICE
def test_without_a_device_the_stage_says_that_enqueue_was_not_run(stage, tmp_path):
    checks, stopped = stage(tmp_path)
    result = judged("plugins", 1, checks, (), None, stopped)
    assert result.status == NOT_HERE
    assert result.why.startswith("enqueue was not run: no device: libcuda.so.1")


def test_a_device_that_does_nothing_does_not_pass_the_stage(stage, fake_driver, tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_driver))
    checks, stopped = stage(tmp_path)
    result = judged("plugins", 1, checks, (), FAKE_UUID, stopped)
    assert result.status == FAILED
    assert sum(check.passed for check in checks if check.ran_on == FAKE_UUID) > 0  # copies of whole inputs
    assert "error inf is above" in result.why


def test_a_harness_that_does_not_compile_says_so(tmp_path, monkeypatch, empty_library):
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main() { return nothing; }")
    monkeypatch.setattr("acceptance.plugin_harness.SOURCE", broken)
    with pytest.raises(RuntimeError, match="does not compile"):
        open_harness(empty_library.path, tmp_path)


def test_an_input_of_another_size_than_its_tensor_is_a_fault(faked):
    each = with_input(case("EvictTokens"), "score", make=partial(np.zeros, 3, np.float32))
    assert "has 12 bytes" in only(faked, each).fault
