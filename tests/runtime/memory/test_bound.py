"""The bound of a request's memory grows with what is asked for, and is above what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from demo_files import DEMO
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile, load_profile
from fastadasp.profiles.flops import resolve
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.answer_sizes import AnswerSizes
from fastadasp.runtime.memory.bound import request_memory
from fastadasp.runtime.prompt import PromptIds

TOOLS = """
import json, sys
from pathlib import Path
import numpy as np
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.memory.bound import encoding_memory
from fastadasp.runtime.prompt import PromptIds

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def noise(seconds):
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000), np.float32)
"""
MEASURE = f"""{TOOLS}
requests, longest, given = int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
model = SpeechLM.load(sys.argv[1], threads=1, max_batch=requests, **given)
text = PromptIds(np.arange(2, 6), np.arange(2, 10))
model.generate(noise(0.5), text, max_new_tokens=2, min_new_tokens=2)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
options = dict(num_beams=5, max_new_tokens=16, min_new_tokens=16)
for _ in range(2):
    for request in [model.submit(noise(longest - 6 * i), text, **options) for i in range(requests)]:
        request.result()
bounds = [model.request_memory(longest - 6 * i, text_rows=12, **options).peak for i in range(requests)]
peak, bound = status("VmHWM") - before, sum(bounds)
print(json.dumps([peak, bound]))
"""
MEASURE_ENCODER = f"""{TOOLS}
model, seconds = SpeechLM.load(sys.argv[1], threads=1), float(sys.argv[2])
model.encode(noise(0.5))
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
for _ in range(2):
    model.encode(noise(seconds))
bound = encoding_memory(model._loaded.memory.model, round(seconds * 16000)).peak
print(json.dumps([status("VmHWM") - before, bound]))
"""

ON_LINUX = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak of a process"
)


POOLED, SELECTED, MAPPED = (
    Profile(method, method, "input", ratio=Fraction(1, 2))
    for method in ("uniform_merge", "group_select", "sa_map")
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpeechLM:
    folder = tmp_path_factory.mktemp("bound") / "artifact"
    profiles = *map(load_profile, ("full", "dense-constant-50")), POOLED, SELECTED
    build(DEMO / "model", folder, BuildOptions(profiles))
    return SpeechLM.load(folder, threads=1, max_batch=1)


def test_it_grows_with_audio_text_beams_and_tokens_and_falls_with_a_reduction(model: SpeechLM) -> None:
    def peak(seconds: float = 30, profile: str = "full", text: int = 10, beams: int = 2, new: int = 9) -> int:
        return model.request_memory(
            seconds, profile, text_rows=text, num_beams=beams, max_new_tokens=new
        ).peak

    base = peak()
    assert base < min(peak(seconds=60), peak(text=20), peak(beams=3), peak(new=10))
    assert peak(profile="dense-constant-50") < base
    selecting = [peak(seconds, SELECTED.name) - peak(seconds, POOLED.name) for seconds in (60, 120, 240)]
    assert selecting == sorted(selecting)
    assert selecting[2] > 3 * selecting[1]  # factors of each group that is chosen


def test_requests_that_may_share_steps_may_take_more(model: SpeechLM) -> None:
    with SpeechLM.load(model.artifact.folder, threads=1, max_batch=2) as batched:
        for options in ({}, {"num_beams": 5}, {"max_new_tokens": 600}):
            alone, shared = (it.request_memory(30, text_rows=9, **options) for it in (model, batched))
            assert alone.batch == 0
            assert shared.batch > shared.prefix
            assert shared.peak == alone.peak + shared.batch


def test_rows_that_are_evicted_from_caches_are_counted_while_the_prefill_runs(model: SpeechLM) -> None:
    """87 MB were measured at 240 s, in a process that had encoded the audio before: 94 MB, not 75."""
    sizes, dims = model._loaded.memory.model, model.manifest.decoder.dims
    h2o = resolve(Profile("h2o", "h2o", "constant", 2, ratio=Fraction(1, 2)), dims, 750)
    asked, samples = AnswerSizes(12, 5, 16), 240 * 16000
    whole, kept = (
        request_memory(sizes, profile, samples, asked, encoded=True)
        for profile in (model.manifest.profiles["full"], h2o)
    )
    assert kept.prefix < whole.prefix
    assert kept.prefix + kept.prefill == whole.prefix + whole.prefill
    assert kept.peak > 87e6


def test_where_rows_look_is_kept_for_every_row(model: SpeechLM) -> None:
    """A number for each row of the prompt."""
    sizes, full = model._loaded.memory.model, model.manifest.profiles["full"]
    asked = AnswerSizes(text_rows=12, num_beams=5, max_new_tokens=16)
    plain, kept = (
        request_memory(each, full, 30 * 16000, asked) for each in (sizes, replace(sizes, keeps_looks=True))
    )
    assert kept.peak - plain.peak == 4 * 5 * 16 * (750 + 12)


@pytest.mark.parametrize("profile", ["full", "dense-constant-50"])
def test_its_prefix_is_exact_and_its_pool_a_bound(model: SpeechLM, profile: str) -> None:
    ids = PromptIds(np.arange(2, 6), np.arange(2, 10))
    samples = 0.1 * np.random.default_rng(0).standard_normal(48000, np.float32)
    result = model.generate(samples, ids, profile=profile, num_beams=3, max_new_tokens=8, min_new_tokens=8)
    bound = model.request_memory(3, profile, text_rows=12, num_beams=3, max_new_tokens=8)
    dims = model.manifest.decoder.dims
    assert bound.prefix == 2 * 4 * dims.kv_width * sum(result.prefix_lengths)
    assert bound.prefix < result.kv_bytes <= bound.kv_cache


@ON_LINUX
@pytest.mark.parametrize(("requests", "factor"), [(1, 2), (4, 4)])
def test_a_measured_peak_is_below_it_and_not_far(model: SpeechLM, requests: int, factor: int) -> None:
    """Of one request, and of several that share steps; those as if all were the largest of their class."""
    peak, bound = measured(model.artifact.folder, requests, 30)
    assert peak <= bound <= factor * peak


@ON_LINUX
@pytest.mark.parametrize("seconds", [2, 30])
def test_a_peak_with_the_attention_of_the_encoder_is_below_it_and_not_far(
    seconds: float, tmp_path: Path
) -> None:
    """All heads of a window of 30 s would be 54 MB, one at a time 9."""
    build(DEMO / "model", tmp_path / "artifact", BuildOptions((MAPPED,)))
    peak, bound = measured(tmp_path / "artifact", 1, seconds)
    assert peak <= bound <= 4 * peak


@ON_LINUX
@pytest.mark.parametrize(("seconds", "factor"), [(2, 4), (30, 2)])
def test_a_peak_of_an_encoder_that_multiplies_in_8_bits_is_below_it_and_not_far(
    seconds: float, factor: int, tmp_path: Path
) -> None:
    """The wide layers take most: rows as they are, their magnitudes, and what they are rounded to."""
    build(DEMO / "model", tmp_path / "artifact", BuildOptions((load_profile("full"),), quantize="int8"))
    peak, bound = printed(MEASURE_ENCODER, tmp_path / "artifact", seconds)
    assert peak <= bound <= factor * peak


@ON_LINUX
@pytest.mark.parametrize("seconds", [2, 30])
def test_openvino_stays_below_it_where_columns_are_summed(
    seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A prompt of a new length has products made for it, which take more than a short one's numbers."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("openvino") / "artifact"
    profiles = (load_profile("dense-constant-50"),)
    build(DEMO / "model", folder, BuildOptions(profiles, targets=("openvino",)))
    peak, bound = measured(folder, 1, seconds, backend="openvino", precision="fp32")
    assert peak <= bound


def measured(folder: Path, requests: int, seconds: float, **given: str) -> list[int]:
    """Peak and bound of requests in a process of its own."""
    return printed(MEASURE, folder, requests, seconds, json.dumps(given))


def printed(script: str, *arguments: object) -> list[int]:
    """What a script prints in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    found: list[int] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found
