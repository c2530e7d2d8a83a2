"""Options of a search: what is not given is left to the artifact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ...runtime.decoding.options import ResolvedSearch, SearchOptions
from .command import Command
from .lists import ids_option

EARLY_STOPPING = {"false": False, "true": True, "never": "never"}

SEARCH: dict[str, tuple[str, Any, str]] = {
    "num_beams": ("--beams", int, "Beams; 1 is greedy search."),
    "max_new_tokens": ("--max-new-tokens", int, "Stop after so many tokens."),
    "min_new_tokens": ("--min-new-tokens", int, "No end token before so many tokens."),
    "length_penalty": ("--length-penalty", float, "Exponent of the length that divides a score."),
    "early_stopping": (
        "--early-stopping",
        click.Choice(list(EARLY_STOPPING)),
        "When beam search stops: if no live beam can win, as soon as enough have ended, or at the very end.",
    ),
    "repetition_penalty": ("--repetition-penalty", float, "Above 1: make tokens that were seen less likely."),
    "no_repeat_ngram_size": ("--no-repeat-ngram-size", int, "Ban n-grams that were generated before."),
    "num_return_sequences": ("--num-return-sequences", int, "Answers to return, at most the beams."),
}
"""Field of `SearchOptions` -> flag, type, help."""
SEARCH_IDS: dict[str, tuple[str, str]] = {
    "eos_token_ids": ("--eos", "Token ids that end an answer."),
    "suppress_tokens": ("--suppress-tokens", "Token ids that are never generated."),
    "begin_suppress_tokens": ("--begin-suppress-tokens", "Token ids that no answer begins with."),
}
"""Field of `SearchOptions` that holds token ids -> flag, help."""


def search_options(whose: str) -> Callable[[Command], Command]:
    """The options of a search: what is not given is left to the artifact, or checkpoint, of the command."""

    def with_search(command: Command) -> Command:
        for field, (flag, text) in reversed(SEARCH_IDS.items()):
            command = ids_option(flag, field, text, whose)(command)
        for field, (flag, kind, text) in reversed(SEARCH.items()):
            default = ResolvedSearch.__dataclass_fields__[field].default
            shown = str(default).lower() if isinstance(default, bool) else default
            default_text = f"[default: the {whose}'s, or {shown}]"
            command = click.option(flag, field, type=kind, help=f"{text}  {default_text}")(command)
        return command

    return with_search


def search_of(values: dict[str, Any]) -> SearchOptions:
    """The search that the values of a command ask for.

    Raises:
        RequestError: with every value that is out of range.
    """
    options = {field: values[field] for field in (*SEARCH, *SEARCH_IDS)}
    if options["early_stopping"] is not None:
        options["early_stopping"] = EARLY_STOPPING[options["early_stopping"]]
    return SearchOptions(**options)


def say_search(asked: SearchOptions, meant: SearchOptions) -> None:
    """A line on the options of a search that come from the checkpoint, not from the command."""
    plain = asked.resolved()
    taken = {name: value for name, value in meant.given.items() if value != getattr(plain, name)}
    if taken:
        words = ", ".join(f"{name} {value}" for name, value in taken.items())
        click.echo(f"search as the checkpoint has it: {words}", err=True)
