"""Whatever a caller passes to the public functions: an answer, or an error of the project that says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastadasp.evaluation.clips.read import read_clips
from fastadasp.evaluation.options import EvalOptions
from fastadasp.profiles import load_profile, parse_profile
from fastadasp.profiles.errors import ArtifactError, AudioError, ClipsError, RequestError
from fastadasp.runtime import Cancellation, PromptIds, RawPrompt, SearchOptions, SegmentOptions, SpeechLM
from fastadasp.runtime.audio.read import load_audio
from fuzzing import answered
from fuzzing import fuzz as many

SOUND = np.full(8000, 0.1, np.float32)
HALF = "caf\udce9"  # as Python gives bytes of a command line that are not UTF-8
FOREIGN = (b"hello", 3, 1.5, True, ["hello"], ...)

scalars = st.one_of(
    *(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(),
        st.just(5000).map(lambda digits: 10**digits),
    ),
    *(st.floats(), st.complex_numbers(), st.text(max_size=5), st.binary(max_size=5)),
    st.sampled_from(
        ["full", "dense-constant-20", "never", HALF, "a\0b", "onnxruntime", "CPUExecutionProvider"]
    ),
    st.sampled_from([object(), int, len, ..., Path("none"), Path(HALF), np.int64(2), np.float32(2), np.nan]),
    arrays.arrays(
        st.sampled_from([np.float32, np.int64, np.bool_]), arrays.array_shapes(max_dims=3, max_side=4)
    ),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=4,
)
fuzz = many(60)
pytestmark = pytest.mark.fuzz


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> SpeechLM:
    return SpeechLM.load(tiny_artifact, threads=1)


def mostly(*usual: object) -> st.SearchStrategy[Any]:
    """Often what is usual, so that the other arguments are looked at."""
    return st.one_of(st.sampled_from(usual), junk)


@fuzz
@given(
    options=st.dictionaries(st.sampled_from(["threads", "providers", "prepack", "other"]), junk, max_size=2),
    profile=mostly(None, "full"),
    backend=mostly("onnxruntime"),
    verify=mostly(False, True),
)
def test_load(tiny_artifact: Path, options: dict[str, Any], profile: Any, backend: Any, verify: Any) -> None:
    answered(lambda: SpeechLM.load(tiny_artifact, profile, backend=backend, verify=verify, **options))


@fuzz
@given(artifact=junk)
def test_load_of_anything(artifact: Any) -> None:
    assert isinstance(answered(lambda: SpeechLM.load(artifact)), ArtifactError)


@fuzz
@given(
    method=st.sampled_from(["generate", "stream"]),
    audio=mostly(SOUND, (SOUND, 16000)),
    prompt=mostly("hello", None, RawPrompt("a<|AUDIO|>b")),
    system=mostly(None),
    profile=mostly(None, "full"),
    source_rate=mostly(None, 16000),
    cancellation=mostly(None, Cancellation()),
    deadline=mostly(None, 100.0),
)
def test_requests(model: SpeechLM, method: str, **arguments: Any) -> None:
    def whole() -> object:
        answer = getattr(model, method)(**arguments, max_new_tokens=2)
        return list(answer) if method == "stream" else answer

    answered(whole)


@fuzz
@given(
    audio=mostly(SOUND, (SOUND, 16000)),
    prompt=mostly("hello", None),
    segmenting=mostly(SegmentOptions()),
    at_once=mostly(1, 2),
    tell=mostly(None, len),
    source_rate=mostly(None, 16000),
    deadline=mostly(None, 100.0),
)
def test_segments(model: SpeechLM, **arguments: Any) -> None:
    answered(lambda: list(model.segments(**arguments, max_new_tokens=2)))


@fuzz
@given(options=st.dictionaries(st.sampled_from([*SegmentOptions.__dataclass_fields__]), junk, max_size=3))
def test_records_of_segments(options: dict[str, Any]) -> None:
    answered(lambda: SegmentOptions(**options).rules(30.0))


@fuzz
@given(audio=mostly(SOUND), source_rate=mostly(None, 16000))
def test_encode(model: SpeechLM, audio: Any, source_rate: Any) -> None:
    answered(lambda: model.encode(audio, source_rate=source_rate))


@fuzz
@given(
    search=mostly(None, SearchOptions()),
    options=st.dictionaries(
        st.sampled_from([*SearchOptions.__dataclass_fields__, "other"]), junk, max_size=3
    ),
)
def test_search_options(model: SpeechLM, search: Any, options: dict[str, Any]) -> None:
    answered(lambda: model.search_options(search, **options))


@fuzz
@given(options=st.dictionaries(st.sampled_from(list(EvalOptions.__dataclass_fields__)), junk, max_size=3))
def test_eval_options(options: dict[str, Any]) -> None:
    answered(lambda: EvalOptions(**options))


@fuzz
@given(before=mostly([1], (2, 3), np.array([1])), after=mostly([1], np.array([1])))
def test_prompt_ids(model: SpeechLM, before: Any, after: Any) -> None:
    answered(lambda: model.generate(SOUND, PromptIds(before, after), max_new_tokens=2))


@fuzz
@given(source=junk, task=mostly(None, "asr"), audio_root=mostly(None), prompt=mostly(""), real=st.booleans())
def test_read_clips(demo_manifest: Path, source: Any, real: bool, **arguments: Any) -> None:
    answered(
        lambda: read_clips(
            demo_manifest if real else source,
            arguments["task"],
            audio_root=arguments["audio_root"],
            prompt=arguments["prompt"],
        )
    )


@fuzz
@given(audio=mostly(SOUND, (SOUND, 8000)), rate=mostly(16000), source_rate=mostly(None, 16000))
def test_load_audio(audio: Any, rate: Any, source_rate: Any) -> None:
    answered(lambda: load_audio(audio, rate, source_rate=source_rate))


@fuzz
@given(options=st.dictionaries(st.sampled_from([*SearchOptions.__dataclass_fields__]), junk, max_size=3))
def test_records_of_a_search(options: dict[str, Any]) -> None:
    answered(lambda: SearchOptions(**options))


@fuzz
@given(before=junk, after=junk)
def test_records_of_a_prompt(before: Any, after: Any) -> None:
    answered(lambda: PromptIds(before, after))


@fuzz
@given(audio=mostly(SOUND), prompt=mostly("hello"), search=mostly(SearchOptions(max_new_tokens=2)))
def test_a_request_with_encoded_audio(model: SpeechLM, audio: Any, prompt: Any, search: Any) -> None:
    def whole() -> object:
        return model.generate(model.encode(audio), prompt, search=search)

    answered(whole)


@fuzz
@given(name=mostly("full", "none"), folders=mostly((), (Path("none"),)))
def test_load_profile(name: Any, folders: Any) -> None:
    answered(lambda: load_profile(name, folders))


@fuzz
@given(text=mostly('method = "full"', "ratio = 1e9", "[["), name=mostly("mine"), place=mostly("there"))
def test_parse_profile(text: Any, name: Any, place: Any) -> None:
    answered(lambda: parse_profile(text, name, place))


@pytest.mark.parametrize("prompt", FOREIGN, ids=repr)
def test_a_prompt_that_is_no_text(model: SpeechLM, prompt: Any) -> None:
    with pytest.raises(RequestError, match=r"prompt is .*: give a text") as caught:
        model.generate(SOUND, prompt=prompt)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("rate", ["16000", True, 10**5000], ids=["text", "flag", "huge"])
def test_a_rate_that_is_none(model: SpeechLM, rate: Any) -> None:
    with pytest.raises(AudioError, match="give a rate in Hz"):
        model.generate(SOUND, source_rate=rate)


def test_ids_in_lists_are_ids(model: SpeechLM) -> None:
    expected = model.generate(SOUND, PromptIds(np.array([5, 6]), np.array([7])), max_new_tokens=3)
    for before, after in (([5, 6], [7]), ((5, 6), (7,))):
        found = model.generate(SOUND, PromptIds(before, after), max_new_tokens=3)  # type: ignore[arg-type]
        assert found.hypotheses == expected.hypotheses
    with pytest.raises(RequestError, match="give arrays"):
        PromptIds(["5"], [7])  # type: ignore[arg-type,list-item]


def test_a_manifest_may_be_named_by_a_text(demo_manifest: Path) -> None:
    assert read_clips(str(demo_manifest), "asr").clips == read_clips(demo_manifest, "asr").clips
    with pytest.raises(ClipsError, match="manifest is None: give a path"):
        read_clips(None, "asr")  # type: ignore[arg-type]


def test_an_artifact_whose_path_is_not_utf_8(tiny_artifact: Path, clip: Path, tmp_path: Path) -> None:
    place = tmp_path / HALF
    place.symlink_to(tiny_artifact)
    with pytest.raises(ArtifactError, match="its path is not UTF-8; move it"):
        SpeechLM.load(place)


@pytest.mark.parametrize("command", ["run", "eval", "bench"])
def test_words_of_a_command_line_that_are_not_utf_8(
    tiny_artifact: Path, clip: Path, demo_manifest: Path, command: str
) -> None:
    rest = {"run": [clip], "eval": ["--manifest", demo_manifest, "--task", "asr"], "bench": ["--runs", "1"]}
    words = [command, str(tiny_artifact), *map(str, rest[command]), "--prompt", HALF]
    program = [sys.executable, "-P", "-m", "fastadasp.export", *words]
    found = subprocess.run([word.encode("utf-8", "surrogateescape") for word in program], capture_output=True)
    stderr = found.stderr.decode("utf-8")
    assert found.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert "prompt 'caf\\udce9': it holds what is not UTF-8; give it as UTF-8" in stderr
