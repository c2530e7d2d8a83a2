"""Faults of options have the names that were typed; what is said of a file keeps its own."""

from __future__ import annotations

import pytest

from fastadasp.export.commands.command import in_options

OPTIONS = {
    "num_beams": "--beams",
    "max_new_tokens": "--max-new-tokens",
    "runs": "--runs",
    "output": "--output",
}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("num_beams is 0: give 1", "--beams is 0: give 1"),
        ("runs is 0: give 1; num_beams is 0: give 1", "--runs is 0: give 1; --beams is 0: give 1"),
        ("num_beams is 5 and max_new_tokens 3", "--beams is 5 and --max-new-tokens 3"),
        ("num_beams 9: the engines take 4", "--beams 9: the engines take 4"),
        ("num_beams: 9 are more than 4", "--beams: 9 are more than 4"),
        ("runs and num_beams exclude each other", "--runs and --beams exclude each other"),
        (
            "runs: 20 tokens and max_new_tokens 400 leave no room",
            "--runs: 20 tokens and --max-new-tokens 400 leave no room",
        ),
        ("runs_more is 0", "runs_more is 0"),
        ("output 2026.jsonl was begun", "output 2026.jsonl was begun"),
        (
            "generation_config.json: num_beams is 0; runs is 0",
            "generation_config.json: num_beams is 0; runs is 0",
        ),
        ("runs/clip.wav is no audio file", "runs/clip.wav is no audio file"),
        ("profile auto: num_beams is no budget", "profile auto: num_beams is no budget"),
    ],
)
def test_names_of_options_are_those_of_the_command_line(message: str, shown: str) -> None:
    assert in_options(message, OPTIONS) == shown


def test_a_command_without_options_changes_nothing() -> None:
    assert in_options("num_beams is 0", {}) == "num_beams is 0"
