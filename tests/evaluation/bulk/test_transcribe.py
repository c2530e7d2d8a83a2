"""A clip gets exactly one line, whatever kills the run; what has a line is not done again."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import noise
from demo_files import CLIPS, DEMO
from fastadasp.evaluation.answers import workers as workers_of_eval
from fastadasp.evaluation.answers.lock import lock
from fastadasp.evaluation.answers.workers import Job
from fastadasp.evaluation.bulk import output as output_module
from fastadasp.evaluation.bulk.local import LocalEngine
from fastadasp.evaluation.bulk.options import TranscribeOptions
from fastadasp.evaluation.bulk.output import Start, failures_of, settings_of
from fastadasp.evaluation.bulk.records import Alternative, Failed, Found, Times, Transcript
from fastadasp.evaluation.bulk.transcribe import GO_ON, Summary, transcribe
from fastadasp.evaluation.bulk.worker import BulkJob
from fastadasp.evaluation.clips.clip import Clip
from fastadasp.evaluation.clips.requests import Requests, read_requests
from fastadasp.export.cli import main
from fastadasp.export.commands.transcribe import ENGINES
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import ClipsError, JournalError, OutputError, RequestError, WorkerError
from fastadasp.profiles.signature import WordHeads
from fastadasp.runtime import SegmentOptions, SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.runtime_options import RuntimeOptions, runtime_options
from processes import is_alive

SHORT = ("--prompt", "transcribe", "--max-new-tokens", "4")


class Told:
    """An engine without a model: each clip is answered with its name, those called `bad…` fail."""

    def __init__(self, stop_after: int | None = None, number: signal.Signals | None = None) -> None:
        self.stop_after, self.number, self.asked = stop_after, number, list[str]()

    def __call__(self, bulk: BulkJob, workers: int) -> Told:
        return self

    def answers(self, clips: Sequence[Clip]) -> Generator[Found, None, None]:
        for i, clip in enumerate(clips):
            if i == self.stop_after:
                if self.number is not None:
                    signal.raise_signal(self.number)
                raise KeyboardInterrupt  # SIGINT may be ignored where tests run
            self.asked.append(clip.id)
            if clip.id.startswith("bad"):
                yield Failed(clip.id, clip.audio, clip.prompt, "full", "cannot be heard", "AudioError")
            else:
                best = Alternative(clip.id.upper(), -1.0, "stop", 3)
                times = Times(1.0, None, 1.0, 1.0, 1.0)
                yield Transcript(
                    *(clip.id, clip.audio, clip.prompt, "full", best.text, -1.0, "stop", 2.0, 3),
                    hypotheses=(best,),
                    latency=times,
                )


def requests(*ids: str, prompt: str = "") -> Requests:
    clips = tuple(Clip(id, None, f"{id}.wav", Path(f"{id}.wav"), "", (), prompt) for id in ids)
    return Requests(Path("clips.jsonl"), Path(), clips)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def ids(path: Path) -> list[str]:
    return [line["id"] for line in lines(path)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def run(tiny_artifact: Path, output: Path) -> Any:
    def run(asked: Requests, engine: Told, start: Start = GO_ON, **options: Any) -> Summary:
        return transcribe(
            tiny_artifact, asked, output, TranscribeOptions(**options), start=start, engine=engine
        )

    return run


def test_a_run_that_was_stopped_goes_on_with_the_clips_that_are_left(run: Any, output: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(requests("a", "b", "c"), Told(stop_after=2))
    assert ids(output) == ["a", "b"]
    engine = Told()
    found = run(requests("a", "b", "c", "d"), engine)
    assert engine.asked == ["c", "d"]
    assert (found.answered, found.before, found.failed) == (2, 2, 0)
    assert ids(output) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("left", ['{"id": "b", "aud', "\x00\x00", '{"id": "b"}'])
def test_a_torn_last_line_is_cut_off_and_its_clip_done_again(run: Any, output: Path, left: str) -> None:
    run(requests("a"), Told())
    with output.open("a") as stream:
        stream.write(left)
    run(requests("a", "b"), Told())
    assert ids(output) == ["a", "b"]


def test_a_whole_line_that_is_damaged_is_named(run: Any, output: Path) -> None:
    run(requests("a"), Told())
    with output.open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(JournalError, match="line 2 is damaged; remove that line"):
        run(requests("a", "b"), Told())


def test_failures_stand_beside_the_answers_and_are_tried_again_where_that_is_asked(
    run: Any, output: Path
) -> None:
    found = run(requests("a", "bad"), Told())
    assert (found.answered, found.failed) == (1, 1)
    assert [each.id for each in found.reasons] == ["bad"]
    assert lines(failures_of(output))[0]["error"] == "cannot be heard"
    again = Told()
    assert run(requests("a", "bad"), again).failed == 1
    assert not again.asked
    assert run(requests("a", "bad"), again, Start(retry_failed=True)).failed == 1
    assert again.asked == ["bad"]
    assert ids(failures_of(output)) == ["bad"]
    assert ids(output) == ["a"]


def test_failures_of_clips_that_are_not_given_are_not_forgotten(run: Any, output: Path) -> None:
    run(requests("bad1", "bad2"), Told())
    again = Told()
    run(requests("bad2", "c"), again, Start(retry_failed=True))
    assert again.asked == ["bad2", "c"]
    assert ids(failures_of(output)) == ["bad1", "bad2"]
    assert ids(output) == ["c"]


def test_failures_that_stay_outlive_a_full_disk(
    run: Any, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(requests("bad1", "bad2", "bad3"), Told())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run(requests("bad2"), Told(), Start(retry_failed=True))
    assert ids(failures_of(output)) == ["bad1", "bad2", "bad3"]
    assert sorted(output.parent.iterdir()) == sorted([failures_of(output), settings_of(output)])
    run(requests("bad2"), Told(), Start(retry_failed=True))
    assert ids(failures_of(output)) == ["bad1", "bad3", "bad2"]


@pytest.mark.parametrize("segmenting", [None, SegmentOptions()])
def test_a_limit_of_memory_may_change_where_it_changes_no_answer(
    run: Any, segmenting: SegmentOptions | None
) -> None:
    run(requests("a", "bad"), Told(), segmenting=segmenting)
    again, limited = Told(), RuntimeOptions(max_request_bytes=10**9)
    if segmenting is None:
        run(requests("a", "bad"), again, Start(retry_failed=True), runtime=limited)
        assert again.asked == ["bad"]
    else:  # they are as long as the limit allows
        with pytest.raises(JournalError, match="max_request_bytes was None, now 1000000000"):
            run(requests("a", "bad"), again, Start(retry_failed=True), segmenting=segmenting, runtime=limited)


def test_a_failure_file_that_is_empty_at_the_end_is_removed(run: Any, output: Path) -> None:
    run(requests("a"), Told())
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name, settings_of(output).name]


def test_a_failure_file_that_another_run_removes_as_it_ends_is_begun_anew(
    run: Any, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock_late(stream: FileIO, path: Path) -> None:
        failures_of(path).unlink(missing_ok=True)
        lock(stream, path)

    monkeypatch.setattr(output_module, "lock", lock_late)
    run(requests("bad"), Told())
    assert ids(failures_of(output)) == ["bad"]


def test_without_a_line_nothing_is_left(run: Any, output: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(requests("a"), Told(stop_after=0))
    assert not list(output.parent.iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"profile": "own-30"}, "profile was 'full', now 'own-30'"),
        ({"system": "be brief"}, "system was None, now 'be brief'"),
        ({"segmenting": SegmentOptions(max_seconds=2)}, "segments was None, now {'threshold': 0.5"),
        ({"search": SearchOptions(length_penalty=2.0)}, "search.length_penalty was 1.0, now 2.0"),
        ({"runtime": runtime_options("openvino")}, "backend was 'onnxruntime', now 'openvino'"),
        ({"runtime": runtime_options("openvino", precision="fp32")}, "precision was None, now 'fp32'"),
        ({"runtime": runtime_options(prepack=False)}, "lean was False, now True"),
        (
            {"runtime": runtime_options(providers=("CUDAExecutionProvider",))},
            "providers was ['CPUExecutionProvider'], now ['CUDAExecutionProvider']",
        ),
    ],
)
def test_other_settings_are_refused_by_name(
    run: Any, output: Path, options: dict[str, Any], named: str
) -> None:
    run(requests("a"), Told())
    before = output.read_bytes()
    with pytest.raises(JournalError, match="begun with other settings") as refused:
        run(requests("a"), Told(), **options)
    assert named in str(refused.value)
    assert "--restart" in str(refused.value)
    assert output.read_bytes() == before
    run(requests("a"), Told(), Start(restart=True), **options)
    assert ids(output) == ["a"]


def test_another_artifact_is_refused_by_its_digest(
    run: Any, output: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    run(requests("a"), Told())
    other = shutil.copytree(tiny_artifact, tmp_path / "other")
    manifest = open_artifact(other).manifest
    changed = replace(manifest, versions={})
    (other / "manifest.json").write_text(changed.to_json(), "utf-8")
    with pytest.raises(JournalError, match=f"artifact was '{manifest.digest}', now '{changed.digest}'"):
        transcribe(other, requests("a"), output, TranscribeOptions(), engine=Told())


def test_another_folder_of_audio_is_refused_by_name(run: Any, tmp_path: Path) -> None:
    run(requests("a"), Told())
    with pytest.raises(JournalError, match=f"audio_root was '{Path.cwd()}', now '{tmp_path}'"):
        run(replace(requests("a"), audio_root=tmp_path), Told())


def test_answers_of_another_library_are_refused_by_its_versions(run: Any, output: Path) -> None:
    run(requests("a"), Told())
    content = json.loads(settings_of(output).read_text("utf-8"))
    content["settings"]["libraries"]["numpy"] = "1.0"
    settings_of(output).write_text(json.dumps(content), "utf-8")
    with pytest.raises(JournalError, match=rf"libraries.numpy was '1\.0', now '{np.__version__}'"):
        run(requests("a"), Told())


def test_nothing_else_is_a_setting(run: Any, output: Path) -> None:
    """Each key has a case above, but for the budget, which wants an artifact with figures."""
    run(requests("a"), Told())
    assert json.loads(settings_of(output).read_text("utf-8"))["settings"].keys() == {
        *("artifact", "profile", "budget", "system", "segments", "audio_root", "search"),
        *("backend", "providers", "lean", "libraries"),
    }


def test_workers_and_batches_may_change(run: Any, output: Path) -> None:
    run(requests("a"), Told(), workers=2, runtime=RuntimeOptions(max_batch=2))
    assert run(requests("a"), Told(), workers=1, runtime=RuntimeOptions(max_batch=1)).before == 1


def test_another_search_is_named_with_its_value(output: Path, tiny_artifact: Path, clip: Path) -> None:
    assert invoke(tiny_artifact, clip, output, "--beams", 1).exit_code == 0
    refused = invoke(tiny_artifact, clip, output, "--beams", 2)
    assert refused.exit_code == 2
    assert "search.num_beams was 1, now 2" in refused.stderr


def test_a_clip_with_another_prompt_or_audio_is_refused_by_its_id(run: Any) -> None:
    run(requests("a", "b"), Told())
    with pytest.raises(ClipsError, match="2 clips differ") as refused:
        run(requests("a", "b", prompt="translate"), Told())
    told = "a: there it has audio a.wav, prompt '', now audio a.wav, prompt 'translate'"
    assert told in refused.value.faults


def test_failures_are_kept_where_the_clips_that_would_be_tried_again_are_refused(
    run: Any, output: Path
) -> None:
    run(requests("a", "bad"), Told())
    with pytest.raises(ClipsError, match="1 clip differs"):
        run(requests("a", prompt="translate"), Told(), Start(retry_failed=True))
    assert ids(failures_of(output)) == ["bad"]


@pytest.mark.parametrize("start", [Start(), Start(restart=True), Start(retry_failed=True)])
def test_a_file_of_someone_else_is_never_touched(run: Any, output: Path, start: Start) -> None:
    output.write_text("mine\n")
    with pytest.raises(JournalError, match="no output of transcribe"):
        run(requests("a"), Told(), start)
    assert output.read_text() == "mine\n"
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_second_run_is_refused(run: Any, output: Path) -> None:
    class Nested(Told):
        def answers(self, clips: Sequence[Clip]) -> Generator[Found, None, None]:
            with pytest.raises(JournalError, match="in use by another run"):
                run(requests("a"), Told())
            yield from super().answers(clips)

    run(requests("a"), Nested())
    assert ids(output) == ["a"]


def test_an_unknown_profile_is_refused_before_the_output_is_there(run: Any, output: Path) -> None:
    with pytest.raises(RequestError, match="profile none is not in"):
        run(requests("a"), Told(), profile="none")
    assert not output.exists()


def invoke(artifact: Path, clips: Path, output: Path, *more: object) -> Result:
    words = ["transcribe", artifact, clips, "-o", output, "--workers", 1, *SHORT, *more]
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_lines_hold_what_generate_gives(tiny_artifact: Path, clip: Path, output: Path) -> None:
    beams = ("--beams", 2, "--num-return-sequences", 2, "--profile", "own-30")
    assert invoke(tiny_artifact, clip, output, *beams).exit_code == 0
    (line,) = lines(output)
    with SpeechLM.load(tiny_artifact, "own-30") as model:
        result = model.generate(clip, "transcribe", num_beams=2, num_return_sequences=2, max_new_tokens=4)
    assert [each["text"] for each in line["hypotheses"]] == [each.text for each in result.hypotheses]
    scores = [each["score"] for each in line["hypotheses"]]
    assert scores == pytest.approx([each.score for each in result.hypotheses])
    latency = line.pop("latency")
    assert latency["request_ms"] > latency["prefill_ms"] > 0
    del line["hypotheses"]
    assert line == {
        "id": "clip.wav",
        "audio": "clip.wav",
        "prompt": "transcribe",
        "profile": "own-30",
        "text": result.text,
        "score": scores[0],
        "finish_reason": result.finish_reason,
        "audio_seconds": 3.0,
        "output_tokens": result.latency.output_tokens,
        "segments": None,
        "profile_reason": None,
        "words": None,
    }


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A folder with one clip of several sentences and a short one."""
    import soundfile

    (tmp_path / "talk").mkdir()
    rng, parts = np.random.default_rng(0), list[Any]()
    for name in ("dates-01.flac", "numbers-01.flac"):
        samples, rate = soundfile.read(CLIPS.parent / name, dtype="float32")
        parts += [samples, 1e-3 * rng.standard_normal(rate, np.float32)]
    soundfile.write(tmp_path / "talk" / "long.wav", np.concatenate(parts), rate)
    soundfile.write(tmp_path / "talk" / "short.wav", parts[0][:rate], rate)
    return tmp_path / "talk"


def test_a_clip_that_is_longer_than_a_segment_is_cut_and_a_short_one_is_not(
    tiny_artifact: Path, talk: Path, output: Path
) -> None:
    ended = invoke(tiny_artifact, talk, output, "--segments", "--max-segment-seconds", 2, "--max-batch", 1)
    assert ended.exit_code == 0, ended.stderr
    found = {line["id"]: line for line in lines(output)}
    whole = output.with_name("whole.jsonl")
    invoke(tiny_artifact, talk / "short.wav", whole)
    assert without_times(found["short.wav"]) == without_times(lines(whole)[0])
    long = found["long.wav"]
    with SpeechLM.load(tiny_artifact, max_batch=2) as model:
        wanted = list(
            model.segments(
                talk / "long.wav",
                "transcribe",
                segmenting=SegmentOptions(max_seconds=2),
                max_new_tokens=4,
            )
        )
    assert len(wanted) > 1
    stretches = [(each["start"], each["end"], each["text"]) for each in long["segments"]]
    assert stretches == [(each.start, each.end, each.text) for each in wanted]
    assert long["text"] == " ".join(each.text for each in wanted if each.text)
    assert long["finish_reason"] == "length"
    assert long["output_tokens"] == sum(each.result.latency.output_tokens for each in wanted)
    assert long["audio_seconds"] == pytest.approx(soundfile_seconds(talk / "long.wav"), abs=1e-3)
    assert not long["hypotheses"]
    assert all(len(each["hypotheses"]) == 1 for each in long["segments"])


def test_words_have_times_where_the_artifact_has_heads_for_them(
    talk: Path, output: Path, tmp_path: Path
) -> None:
    artifact, full = tmp_path / "worded", load_profile("full")
    build(DEMO / "model", artifact, BuildOptions((full,), word_heads=WordHeads(7, (0, 1))))
    cut = ("--segments", "--max-segment-seconds", 2)
    assert invoke(artifact, talk, output, *cut).exit_code == 0
    found = {line["id"]: line for line in lines(output)}
    with SpeechLM.load(artifact) as model:
        asked = {"prompt": "transcribe", "max_new_tokens": 4}
        whole = model.generate(talk / "short.wav", **asked)
        stretches = model.segments(talk / "long.wav", segmenting=SegmentOptions(max_seconds=2), **asked)
        wanted = [each.words for each in stretches]
    assert found["long.wav"]["words"] is None
    told = [found["short.wav"]["words"], *(each["words"] for each in found["long.wav"]["segments"])]
    assert [[(word["text"], word["start"], word["confident"]) for word in words] for words in told] == [
        [(word.text, pytest.approx(word.start), word.confident) for word in words or ()]
        for words in (whole.words, *wanted)
    ]
    assert told[0]
    assert told[-1][-1]["start"] > 2


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "latency"}


def soundfile_seconds(path: Path) -> float:
    import soundfile

    seconds: float = soundfile.info(path).duration
    return seconds


def test_a_clip_that_is_too_long_is_a_failure_that_names_the_option(
    tiny_artifact: Path, tmp_path: Path, output: Path
) -> None:
    import soundfile

    with SpeechLM.load(tiny_artifact) as model:
        seconds = model.max_audio_seconds
    soundfile.write(tmp_path / "long.wav", noise(seconds + 1), 16000)
    assert invoke(tiny_artifact, tmp_path / "long.wav", output).exit_code == 1
    (failure,) = lines(failures_of(output))
    assert failure["error_type"] == "LongAudioError"
    assert failure["error"].endswith("--segments cuts it")
    refused = invoke(tiny_artifact, tmp_path / "long.wav", output, "--max-segment-seconds", 2)
    assert refused.exit_code == 2
    assert "of --segments, which is not given" in refused.stderr


def test_a_clip_that_takes_too_much_memory_as_a_whole_is_answered_in_segments(
    tiny_artifact: Path, tmp_path: Path, output: Path
) -> None:
    import soundfile

    soundfile.write(tmp_path / "clip.wav", noise(2), 16000)
    with SpeechLM.load(tiny_artifact) as model:
        rows = model.generate(noise(1), "transcribe", max_new_tokens=4).text_rows
        limit = model.request_memory(1.5, text_rows=rows, max_new_tokens=4).peak
    asked = "--max-request-memory", f"{limit}B"
    assert invoke(tiny_artifact, tmp_path / "clip.wav", output, *asked).exit_code == 1
    assert invoke(tiny_artifact, tmp_path / "clip.wav", tmp_path / "cut", "--segments", *asked).exit_code == 0


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """Under nohup, where tests may run, SIGHUP is ignored, and commands leave it so."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize(
    ("number", "code"), [(None, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_tells_what_is_kept_and_what_goes_on(
    tiny_artifact: Path,
    many: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals | None,
    code: int,
) -> None:
    monkeypatch.setitem(ENGINES, "local", lambda: Told(3, number))
    told = "stopped: 3 of 12 clips are done and kept; the same command{} goes on with the others"
    for flags, without in (
        ((), ""),
        (("--restart",), " without --restart"),
        (("--restart", "--retry-failed"), " without --restart and --retry-failed"),
    ):
        stopped = invoke(tiny_artifact, many, output, *flags)
        assert stopped.exit_code == code
        assert told.format(without) in stopped.stderr.splitlines()
    assert len(ids(output)) == 3
    monkeypatch.setitem(ENGINES, "local", Told)
    assert invoke(tiny_artifact, many, output).exit_code == 0
    assert len(ids(output)) == 12


def test_a_clip_that_cannot_be_answered_stops_no_other(tiny_artifact: Path, clip: Path, output: Path) -> None:
    folder = output.parent / "sound"
    (folder / "b").mkdir(parents=True)
    shutil.copy(clip, folder / "z.wav")
    shutil.copy(clip, folder / "b" / "a.WAV")
    (folder / "broken.mp3").write_bytes(b"no audio")
    (folder / "notes.txt").write_text("no audio")
    ended = invoke(tiny_artifact, folder, output)
    assert ended.exit_code == 1
    assert "3 clips: 2 answered, 1 failed" in ended.stderr
    assert "Error: broken.mp3: " in ended.stderr
    assert sorted(ids(output)) == ["b/a.WAV", "z.wav"]
    (failure,) = lines(failures_of(output))
    assert failure["id"] == "broken.mp3"
    assert failure["error_type"] == "AudioError"
    shutil.copy(clip, folder / "broken.mp3")
    assert invoke(tiny_artifact, folder, output).exit_code == 1
    assert invoke(tiny_artifact, folder, output, "--retry-failed").exit_code == 0
    assert not failures_of(output).exists()
    assert sorted(ids(output)) == ["b/a.WAV", "broken.mp3", "z.wav"]


def test_failures_beyond_those_that_are_shown_are_counted(tiny_artifact: Path, output: Path) -> None:
    folder = output.parent / "sound"
    folder.mkdir()
    for i in range(7):
        (folder / f"{i}.mp3").write_bytes(b"no audio")
    ended = invoke(tiny_artifact, folder, output)
    assert ended.stderr.count("Error: ") == 5
    assert f"and 2 more, in {failures_of(output)}" in ended.stderr


def test_an_output_that_is_no_file_is_refused(tiny_artifact: Path, clip: Path) -> None:
    refused = invoke(tiny_artifact, clip, Path(os.devnull))
    assert refused.exit_code == 2
    assert "is no file" in refused.stderr


def test_a_clip_that_fails_below_a_folder_that_is_not_utf_8_is_a_failure(
    tiny_artifact: Path, clip: Path, output: Path
) -> None:
    folder, listed = output.with_name("caf\udce9"), output.with_name("list.jsonl")
    folder.mkdir()
    shutil.copy(clip, folder / "a.wav")
    listed.write_text('{"audio": "a.wav"}\n{"audio": "b.wav"}\n{"audio": "c.wav"}\n')
    asked = tiny_artifact, listed, output, "--audio-root", folder
    assert invoke(*asked).exit_code == 1
    shutil.copy(clip, folder / "c.wav")
    assert invoke(*asked, "--retry-failed").exit_code == 1
    (failure,) = lines(failures_of(output))
    assert "caf\\udce9/b.wav" in failure["error"]
    assert sorted(ids(output)) == ["a.wav", "c.wav"]


def children(process: int) -> list[int]:
    """The workers of a run, which multiprocessing starts with these words."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(each) for each in found if b"spawn_main" in command_of(each)]


def command_of(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Twelve short clips in a folder."""
    import soundfile

    (tmp_path / "sound").mkdir()
    for i in range(12):
        soundfile.write(tmp_path / "sound" / f"{i:02}.wav", noise(0.5, i), 16000)
    return tmp_path / "sound"


def begin(artifact: Path, clips: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-m", "fastadasp.export", "transcribe", artifact, clips, "-o", output]
    command = [*map(str, words), *SHORT, "--max-batch", "2", *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def soon(condition: Any) -> bool:
    """Whether something comes true before long."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.002)
    return False


linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found as Linux has them")


@linux
def test_each_clip_has_one_line_though_the_parent_is_killed_again_and_again(
    tiny_artifact: Path, many: Path, output: Path
) -> None:
    dice, workers = random.Random(0), set[int]()
    for kill in range(2):
        process = begin(tiny_artifact, many, output, "--workers", "2")
        wanted = 4 * kill + dice.randint(1, 3)
        while count_lines(output) < wanted and process.poll() is None:
            workers |= set(children(process.pid))  # a run may be over before the next look
            time.sleep(0.002)
        process.kill()
        process.communicate()
    assert soon(lambda: not any(map(is_alive, workers)))
    assert workers
    process = begin(tiny_artifact, many, output, "--workers", "2")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert sorted(ids(output)) == sorted(path.name for path in many.iterdir())
    assert not failures_of(output).exists()


def count_lines(output: Path) -> int:
    return output.read_bytes().count(b"\n") if output.exists() else 0


def await_lines(output: Path, wanted: int) -> None:
    assert soon(lambda: count_lines(output) >= wanted)


@linux
def test_each_clip_has_one_line_though_workers_are_killed(
    tiny_artifact: Path, many: Path, output: Path
) -> None:
    process = begin(tiny_artifact, many, output, "--workers", "1")
    for wanted in (1, 5):
        await_lines(output, wanted)
        for worker in children(process.pid):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert sorted(ids(output)) == sorted(path.name for path in many.iterdir())


def test_workers_that_die_before_they_have_loaded_end_the_run(tmp_path: Path) -> None:
    engine = LocalEngine(_Broken(), 1)  # type: ignore[arg-type]
    with pytest.raises(WorkerError, match="3 worker processes died while they loaded the artifact"):
        list(engine.answers(requests("a").clips))


class _Broken:
    """A job that ends the process which unpacks it."""

    max_batch = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def test_a_clip_that_kills_its_worker_is_a_failure_and_the_others_are_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The workers are threads here; `kill` tells which clip ends one."""
    from fastadasp.evaluation.bulk import local

    monkeypatch.setattr(local, "_Worker", _Fake)
    job = Job(tmp_path, "", ("full",), SearchOptions(), RuntimeOptions(max_batch=3))
    bulk = BulkJob(job, None)
    found = list(LocalEngine(bulk, 2).answers(requests("a", "b", "kill", "c", "d", "e").clips))
    assert sorted(each.id for each in found) == ["a", "b", "c", "d", "e", "kill"]
    (failure,) = [each for each in found if isinstance(each, Failed)]
    assert failure.id == "kill"
    assert "3 worker processes died while they had this clip" in failure.error
    assert failure.error_type == "WorkerError"


class _Fake:
    """A worker as `_Worker` without a process: it answers when it is heard, and dies of a clip `kill`."""

    def __init__(self, bulk: BulkJob) -> None:
        from multiprocessing import Pipe

        self.pipe, self._theirs = Pipe()
        self.clips: dict[str, Clip] = {}
        self.is_ready = True

    def give(self, clip: Clip) -> None:
        self.clips[clip.id] = clip
        self._theirs.send(clip.id)

    def receive(self) -> Found | None:
        id = self.pipe.recv()
        if "kill" in self.clips:
            return None
        return next(Told().answers([self.clips[id]]))

    def dismiss(self) -> None: ...

    def wait(self) -> None: ...

    def end(self) -> None:
        self.pipe.close()


def test_a_folder_is_read_in_the_order_of_its_paths(many: Path) -> None:
    (many / "a").mkdir()
    shutil.copy(many / "00.wav", many / "a" / "x.flac")
    found = read_requests(many, prompt="p")
    assert [clip.id for clip in found.clips] == [*(f"{i:02}.wav" for i in range(12)), "a/x.flac"]
    assert {clip.prompt for clip in found.clips} == {"p"}


def test_a_clip_list_needs_no_references_and_keeps_its_own_prompts(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text('{"audio": "a.wav"}\n{"audio": "b.wav", "prompt": "own", "id": "2"}\n')
    found = read_requests(listed, prompt="p")
    assert [(clip.id, clip.prompt, clip.path) for clip in found.clips] == [
        ("a.wav", "p", tmp_path / "a.wav"),
        ("2", "own", tmp_path / "b.wav"),
    ]


def test_the_faults_of_a_clip_list_are_told_at_once(tmp_path: Path) -> None:
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"audio": "../a.wav"}\n{"text": "x"}\n{"audio": "b.wav", "task": "sing"}\nno\n')
    with pytest.raises(ClipsError, match="4 faulty lines") as refused:
        read_requests(listed)
    assert [fault.split(":")[0] for fault in refused.value.faults] == [f"line {i}" for i in range(1, 5)]


def test_one_file_is_one_clip(clip: Path) -> None:
    (found,) = read_requests(clip).clips
    assert (found.id, found.path) == ("clip.wav", clip)


def test_a_file_whose_name_is_not_utf_8_is_refused(clip: Path, tmp_path: Path) -> None:
    named = shutil.copy(clip, tmp_path / "caf\udce9.wav")
    with pytest.raises(ClipsError, match=r"caf\\xe9\.wav: its name is not UTF-8; rename it"):
        read_requests(named)


@pytest.mark.parametrize("name", ["missing.wav", "empty"])
def test_what_is_no_clip_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipsError, match=name):
        read_requests(tmp_path / name)


def test_the_clips_of_the_demo_are_read(demo_manifest: Path) -> None:
    assert len(read_requests(demo_manifest).clips) == len(CLIPS.read_text("utf-8").splitlines())


def test_by_default_there_is_a_worker_a_core_and_one_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 1), (4, 4), (64, 8)):
        monkeypatch.setattr(workers_of_eval, "usable_cores", lambda cores=cores: cores)
        assert TranscribeOptions().num_workers == workers
    assert TranscribeOptions(workers=12).num_workers == 12
    assert TranscribeOptions(runtime=runtime_options("tensorrt")).num_workers == 1


def test_a_worker_has_one_thread_of_blas_unless_the_user_has_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastadasp.evaluation.answers.piped import BLAS_THREADS, _environment

    monkeypatch.delenv(BLAS_THREADS, raising=False)
    with _environment(BLAS_THREADS, "1"):
        assert os.environ[BLAS_THREADS] == "1"
    assert BLAS_THREADS not in os.environ
    monkeypatch.setenv(BLAS_THREADS, "4")
    with _environment(BLAS_THREADS, "1"):
        assert os.environ[BLAS_THREADS] == "4"


@pytest.mark.parametrize(
    "options", [{"workers": -1}, {"profile": 3}, {"system": "\ud800"}, {"search": None}, {"segmenting": 3}]
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(options))):
        TranscribeOptions(**options)
