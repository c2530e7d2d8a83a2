"""Options that would change nothing are refused before anything is read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main

SELECT = ("select-layer", "NOWHERE", "--manifest", "NOTHING")


def refusal(*words: str) -> str:
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 2, ended.output
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words", [("--workers", "1"), ("--restart",), ("--beams", "2"), ("--eos", "1"), ("--flops-levels", "9")]
)
def test_options_of_an_evaluation_are_refused_without_one(words: tuple[str, ...]) -> None:
    assert refusal(*SELECT, *words) == f"Error: {words[0]}: of --accuracy, which is not given"


@pytest.mark.parametrize(
    ("words", "given", "of"),
    [
        (("profiles", "show", "full"), ("--text-tokens", "7"), "--checkpoint"),
        (("profiles", "show", "full"), ("--audio-seconds", "9"), "--checkpoint"),
        (("figures", "NOWHERE", "--latency", "NOTHING"), ("--least-recordings", "5"), "--accepted"),
        (
            ("build", "NOWHERE", "-o", "ART", "--profile", "full", "--latency", "NOTHING"),
            ("--least-recordings", "5"),
            "--accepted",
        ),
        (
            ("tune", "NOWHERE", "--manifest", "NOTHING", "--max-loss", "1", "-o", "a.toml"),
            ("--runs", "3"),
            "--objective latency",
        ),
    ],
)
def test_options_of_what_is_not_given_are_refused(
    words: tuple[str, ...], given: tuple[str, ...], of: str
) -> None:
    assert refusal(*words, *given) == f"Error: {given[0]}: of {of}, which is not given"


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (("eval", "NOWHERE", "--manifest", "NOTHING"), "-o"),
        (("compare", "NOWHERE", "--manifest", "NOTHING"), "-o"),
        ((*SELECT, "--accuracy"), "--json or -o"),
    ],
)
def test_to_begin_anew_is_refused_where_nothing_is_kept(words: tuple[str, ...], flags: str) -> None:
    line = f"Error: --restart: nothing is kept without {flags}; leave it out, or give {flags}"
    assert refusal(*words, "--restart") == line


@pytest.mark.parametrize("flag", ["--methods", "--schedules"])
def test_what_is_unknown_beside_all_is_refused(flag: str) -> None:
    line = refusal("compare", "NOWHERE", "--manifest", "NOTHING", flag, "all,weighed_merge")
    assert line.startswith(f"Error: {flag.removeprefix('--').removesuffix('s')} weighed_merge is unknown: ")


@pytest.mark.parametrize(
    "words",
    [
        (*SELECT, "--reference-seconds"),
        ("compare", "NOWHERE", "--manifest", "NOTHING", "--reference-seconds"),
        ("profiles", "show", "full", "--audio-seconds"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "0"])
def test_a_length_of_audio_is_a_number(words: tuple[str, ...], value: str) -> None:
    assert f"Invalid value for '{words[-1]}'" in refusal(*words, value)
