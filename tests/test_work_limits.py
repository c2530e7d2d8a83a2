"""Every limit that is known before work starts is refused before it, with value and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastadasp.evaluation.clips.read import read_clips
from fastadasp.evaluation.options import EvalOptions
from fastadasp.export.cli import main
from fastadasp.export.studies.compare.options import CompareOptions
from fastadasp.export.studies.select_layer.options import SelectionOptions
from fastadasp.export.studies.tune.options import TuneOptions
from fastadasp.profiles.errors import MOST_FAULTS, AudioError, ClipsError, RequestError
from fastadasp.profiles.faults import shown
from fastadasp.runtime import PromptIds, SearchOptions, SpeechLM
from fastadasp.runtime.backend_options import MOST_THREADS
from fastadasp.runtime.benchmark.options import BenchmarkOptions
from fastadasp.runtime.onnxruntime.options import OnnxRuntimeOptions
from fastadasp.runtime.prompt import PromptCodec

SOUND = np.full(16000, 0.1, np.float32)
FEW_RUNS = ("--beams", "1", "--runs", "1", "--warmup", "0", "--new-tokens", "2", "--threads", "1")


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> SpeechLM:
    return SpeechLM.load(tiny_artifact, threads=1)


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.mark.parametrize("beams", [129, 1000, 10**9, pytest.param(10**5000, id="huge")])
def test_more_beams_than_any_search_uses(beams: int) -> None:
    assert SearchOptions(num_beams=128).num_beams == 128
    with pytest.raises(RequestError, match=r"num_beams is .*: give at most 128"):
        SearchOptions(num_beams=beams)
    with pytest.raises(RequestError, match=r"beams is .*: give at most 128"):
        BenchmarkOptions(beams=(beams,))


@pytest.mark.parametrize("kind", [OnnxRuntimeOptions, BenchmarkOptions])
def test_more_threads_than_the_machine_can_use(kind: type) -> None:
    assert kind(threads=MOST_THREADS).threads == MOST_THREADS
    with pytest.raises(RequestError, match=f"threads is {MOST_THREADS + 1}: give at most {MOST_THREADS}"):
        kind(threads=MOST_THREADS + 1)


def test_more_workers_and_resamples_than_make_sense() -> None:
    with pytest.raises(RequestError, match=r"resamples is 10000000: .*; workers is 999: give at most"):
        EvalOptions(resamples=10**7, workers=999)


@pytest.mark.parametrize("name", ["runs", "warmup"])
@pytest.mark.parametrize("kind", [BenchmarkOptions, partial(TuneOptions, max_loss=1.0)])
def test_more_runs_than_anyone_waits_for(kind: Callable[..., Any], name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} is 1000000000000: give at most 1000000"):
        kind(**{name: 10**12})


def test_more_draws_of_a_study_than_anyone_waits_for() -> None:
    with pytest.raises(RequestError, match="seeds is 1000000: give at most 100"):
        CompareOptions(seeds=10**6)
    with pytest.raises(RequestError, match="resamples is 1000000000000: give at most 1000000"):
        SelectionOptions(Fraction(1, 2), resamples=10**12)


@pytest.mark.parametrize("option", [("--beams", 10**9), ("--threads", 999)])
def test_a_command_says_so_before_the_artifact_is_read(option: tuple[str, int]) -> None:
    result = call("run", "no-artifact", "clip.wav", *option)
    assert result.exit_code == 2
    assert f"is {option[1]}: give at most" in result.stderr


def test_audio_of_a_benchmark_that_no_memory_holds(tiny_artifact: Path) -> None:
    result = call("bench", tiny_artifact, *FEW_RUNS, "--audio-seconds", "1e9")
    assert result.exit_code == 2
    assert "--audio-seconds is 1e+09: give at most 1000000" in result.stderr


def test_audio_of_a_benchmark_that_the_model_cannot_hear_is_never_made(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastadasp.runtime.benchmark import benchmark

    made: list[float] = []
    repeat = benchmark.repeat
    monkeypatch.setattr(benchmark, "repeat", lambda *args: made.append(args[1]) or repeat(*args))
    options = BenchmarkOptions(
        profiles=("full",), beams=(1,), audio_seconds=(1.0, 1e6), runs=1, warmup=0, new_tokens=2
    )
    short, long = benchmark.run_benchmark(model, options).results
    assert made == [1.0]
    assert short.skipped is None
    assert long.skipped is not None
    assert "1000000.0 s take" in long.skipped


def test_a_prompt_of_megabytes_is_refused_before_it_is_tokenised(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> list[int]:
        raise AssertionError("it is tokenised")

    monkeypatch.setattr(PromptCodec, "_tokens", never)
    with pytest.raises(RequestError) as caught:
        model.generate(SOUND, "word " * 2_000_000)
    assert "10000000 characters are too long for this model's 1024 positions" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("tokens", "new_tokens", "message"),
    [
        (1100, 4, "prompt: 1100 tokens leave no room for audio in this model's 1024 positions; shorten it"),
        (600, 500, "prompt: 600 tokens and max_new_tokens 500 leave no room for audio"),
        (5, 2000, "max_new_tokens 2000 leave no room for audio"),
    ],
)
def test_a_prompt_without_room_for_audio_is_not_blamed_on_the_audio(
    model: SpeechLM, tokens: int, new_tokens: int, message: str
) -> None:
    ids = PromptIds(np.full(tokens - 1, 9, np.int64), np.full(1, 9, np.int64))
    with pytest.raises(RequestError) as caught:
        model.generate(SOUND, ids, max_new_tokens=new_tokens)
    assert str(caught.value).startswith(message)


def test_audio_beside_which_there_is_room_is_still_what_is_too_long(model: SpeechLM) -> None:
    ids = PromptIds(np.full(900, 9, np.int64), np.full(1, 9, np.int64))
    with pytest.raises(AudioError, match="cut the audio"):
        model.generate(np.tile(SOUND, 10), ids, max_new_tokens=4)


def test_a_list_of_many_faulty_lines_shows_the_first_and_counts_the_others(tmp_path: Path) -> None:
    path = tmp_path / "clips.jsonl"
    path.write_text("\n".join(json.dumps({"x" * 9000: i}) for i in range(1000)), "utf-8")
    with pytest.raises(ClipsError) as caught:
        read_clips(path, "asr")
    lines = str(caught.value).splitlines()
    assert "1000 faulty lines" in lines[0]
    assert len(lines) == MOST_FAULTS + 2
    assert (
        lines[-1].strip() == f"… and {len(caught.value.faults) - MOST_FAULTS} more faults: mend these first"
    )
    assert max(map(len, lines)) < 600


def test_values_are_shown_whatever_they_are() -> None:
    assert shown("a\udcff") == r"'a\udcff'"
    assert shown(10**5000) == "a int too large to show"
    assert len(shown("x" * 10**7)) == len(shown(list(range(10**4)))) == 80
