"""Prompts and searches on the command line: the artifact's own, a request's, and a hint without any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastadasp.export.cli import main
from fastadasp.runtime import RawPrompt, SpeechLM
from fastadasp.runtime.decoding.options import ResolvedSearch

CHAT = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}
{{ '<|audio_bos|><|AUDIO|><|audio_eos|>' if 'audio' in part else part.text }}{% endfor %}{% endif %}<|im_end|>
{% endfor %}<|im_start|>assistant
"""
SHORT = ("--max-new-tokens", "6")


@pytest.fixture(scope="module")
def chat_artifact(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instruct model with a search and, by `build --prompt`, a prompt of its own."""
    folder = tmp_path_factory.mktemp("chat")
    shutil.copytree(tiny_checkpoint, folder / "checkpoint")
    (folder / "checkpoint/chat_template.jinja").write_text(CHAT, "utf-8")
    settings = {"eos_token_id": 2, "repetition_penalty": 1.3, "num_beams": 2, "do_sample": True, "top_k": 9}
    (folder / "checkpoint/generation_config.json").write_text(json.dumps(settings), "utf-8")
    built = call(
        *("build", folder / "checkpoint", "-o", folder / "art", "--profile", "full", "--prompt", "hello\n")
    )
    assert "not taken from the checkpoint: do_sample True, top_k 9" in " ".join(built.stderr.split())
    return folder / "art"


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def answers(artifact: Path, clip: Path, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("run", artifact, clip, *args, "--json").stdout)
    return {"text_rows": found["text_rows"], "tokens": found["hypotheses"][0]["tokens"]}


def expected(artifact: Path, clip: Path, *args: Any, **options: Any) -> dict[str, Any]:
    found = SpeechLM.load(artifact).generate(clip, *args, max_new_tokens=6, **options)
    return {"text_rows": found.text_rows, "tokens": list(found.hypotheses[0].tokens)}


def test_what_is_left_out_is_the_artifacts(chat_artifact: Path, clip: Path) -> None:
    found = answers(chat_artifact, clip, *SHORT)
    assert found == expected(chat_artifact, clip)
    assert found == expected(chat_artifact, clip, "hello\n", num_beams=2, repetition_penalty=1.3)
    assert found != expected(chat_artifact, clip, "", num_beams=2, repetition_penalty=1.3)
    assert call("run", chat_artifact, clip, *SHORT).stderr.count("hint") == 0


def test_options_of_the_command_count_before_the_artifacts(chat_artifact: Path, clip: Path) -> None:
    plain = ("--beams", "1", "--repetition-penalty", "1")
    assert answers(chat_artifact, clip, *SHORT, *plain) == expected(
        chat_artifact, clip, num_beams=1, repetition_penalty=1.0
    )


def test_token_ids_are_lists_or_none_of_them(chat_artifact: Path, clip: Path) -> None:
    first = answers(chat_artifact, clip, *SHORT, "--beams", "1")["tokens"]
    options = {"suppress_tokens": (first[0], first[1]), "begin_suppress_tokens": (9,), "num_beams": 1}
    given = f"--suppress-tokens={first[0]},{first[1]}", "--begin-suppress-tokens", "9", "--beams", "1"
    found = answers(chat_artifact, clip, *SHORT, *given)
    assert found == expected(chat_artifact, clip, **options)
    assert found["tokens"][0] != first[0]
    assert answers(chat_artifact, clip, *SHORT, "--beams", "1", "--eos", first[1])["tokens"] == first[:1]
    none = answers(chat_artifact, clip, *SHORT, "--eos", "none", "--suppress-tokens", "none")
    assert none == expected(chat_artifact, clip, eos_token_ids=(), suppress_tokens=())
    line = call("run", chat_artifact, clip, "--eos", "none,2", code=2).stderr.splitlines()[-1]
    assert line.endswith("'none,2' is no list of numbers such as 1,5")


def test_a_system_text_and_a_whole_prompt_are_taken(chat_artifact: Path, clip: Path) -> None:
    found = answers(chat_artifact, clip, *SHORT, "--prompt", "hi", "--system", "be brief")
    assert found == expected(chat_artifact, clip, "hi", system="be brief")
    raw = "user <|AUDIO|> {prompt}"
    assert answers(chat_artifact, clip, *SHORT, "--raw-prompt", raw) == expected(
        chat_artifact, clip, RawPrompt(raw)
    )
    streamed = call("run", chat_artifact, clip, *SHORT, "--beams", 1, "--stream", "--raw-prompt", raw)
    whole = SpeechLM.load(chat_artifact).generate(clip, RawPrompt(raw), max_new_tokens=6, num_beams=1)
    assert streamed.stdout == f"{whole.text}\n"


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (("--raw-prompt", "hello"), "<|AUDIO|> stands 0 times"),
        (("--raw-prompt", "<|AUDIO|>x", "--prompt", "y"), "--prompt and --raw-prompt exclude each other"),
        (("--raw-prompt", "<|AUDIO|>x", "--system", "y"), "taken whole, so there is no place for system 'y'"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    chat_artifact: Path, clip: Path, args: tuple[str, ...], fault: str
) -> None:
    assert fault in " ".join(call("run", chat_artifact, clip, *args, code=2).stderr.split())


def test_a_model_without_a_place_for_a_system_text_says_so(tiny_artifact: Path, clip: Path) -> None:
    refused = call("run", tiny_artifact, clip, "--system", "be brief", code=2).stderr
    assert "system 'be brief': the template of this model has no place for it" in refused


def test_a_request_without_a_question_gets_a_hint(tiny_artifact: Path, clip: Path) -> None:
    hint = "hint: without --prompt the model heard the audio and no question"
    for how in ((), ("--stream",), ("--json",)):
        assert hint in call("run", tiny_artifact, clip, *SHORT, *how).stderr
        assert "hint" not in call("run", tiny_artifact, clip, *SHORT, *how, "--prompt", "").stderr


@pytest.mark.parametrize("option", ["--eos", "--suppress-tokens", "--begin-suppress-tokens"])
def test_ids_that_are_no_tokens_are_refused_before_any_work(
    tiny_artifact: Path, clip: Path, own_clips: Path, option: str
) -> None:
    """An end token that is none lets an answer go on for ever; in an evaluation every clip would fail."""
    fault = "99999 is not one of "
    assert fault in call("run", tiny_artifact, clip, option, "2,99999", code=2).stderr
    refused = call("eval", tiny_artifact, "--manifest", own_clips, option, "2,99999", code=2)
    assert fault in refused.stderr
    assert not refused.stdout


def test_an_evaluation_without_questions_gets_a_hint(
    tiny_artifact: Path, chat_artifact: Path, own_clips: Path
) -> None:
    lines = [json.loads(line) | {"prompt": ""} for line in own_clips.read_text("utf-8").splitlines()]
    own_clips.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    args = ("--manifest", own_clips, "--resamples", 9, *SHORT)
    hint = "clips have no prompt, so the model hears audio and no question; give --prompt"
    assert call("eval", tiny_artifact, *args).stderr.count(hint) == 1
    assert hint not in call("eval", tiny_artifact, *args, "--prompt", "hello").stderr
    assert hint not in call("eval", chat_artifact, *args).stderr


def test_inspect_shows_prompts_and_search(chat_artifact: Path) -> None:
    shown = call("inspect", chat_artifact).stdout
    assert "<|im_start|>user\\n<|audio_bos|>{audio}<|audio_eos|>{prompt}<|im_end|>" in "".join(shown.split())
    for words in ("with system", "{system}", "default prompt", r"hello\n", "num_beams 2"):
        assert words in shown
    assert "repetition_penalty 1.3" in " ".join(shown.split())


def test_an_evaluation_says_what_search_the_checkpoint_asks_for(
    chat_artifact: Path, own_clips: Path, tmp_path: Path
) -> None:
    args = ("--manifest", own_clips, "--resamples", 9, *SHORT, "-o", tmp_path / "e.json", "--beams", 1)
    found = call("eval", chat_artifact, *args)
    assert "search as the checkpoint has it: repetition_penalty 1.3\n" in found.stderr
    result = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert result["settings"]["search"]["repetition_penalty"] == 1.3
    assert result["settings"]["search"]["num_beams"] == 1
    text = SpeechLM.load(chat_artifact).generate(
        own_clips.parent / result["records"][0]["audio"], num_beams=1, max_new_tokens=6
    )
    assert result["records"][0]["answers"]["full"]["text"] == text.text


def test_a_benchmark_searches_plainly(chat_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches, generate = [], SpeechLM.generate

    def spy(model: SpeechLM, *args: Any, **kwargs: Any) -> Any:
        searches.append(model.search_options(kwargs["search"]))
        return generate(model, *args, **kwargs)

    monkeypatch.setattr(SpeechLM, "generate", spy)
    call("bench", chat_artifact, "--audio-seconds", 1, "--runs", 1, "--new-tokens", 3, "--beams", 1)
    plain = ResolvedSearch(max_new_tokens=3, min_new_tokens=3, eos_token_ids=(2,))
    assert set(searches) == {plain}
