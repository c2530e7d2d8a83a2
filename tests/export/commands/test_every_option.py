"""All options of all commands: what is given twice counts twice, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main

TWO_ITEMS: dict[str, tuple[str, str]] = {
    "NAME": ("a", "b"),
    "N": ("1", "5"),
    "S": ("2.5", "7"),
    "R": ("0.5", "2"),
    "PERCENT": ("10", "20"),
    "SM": ("80", "90"),
    "FILE": ("a.json", "b.json"),
    "LAYER.HEAD": ("7.0", "7.1"),
}
"""First word of a list's metavar -> two items of it, in rising order."""
ONE_ITEM = {
    ("run", "--profile"): "eval",
    ("transcribe", "--profile"): "an output of its own",
    ("serve", "--profile"): "NAME:PROFILE",
    ("export-triton", "--profile"): "requests name any of them",
    ("select-layer", "--flops"): "--flops-levels",
}
"""Options of the grammar for lists that take one item -> what their refusal points to."""
WITH_FOLDERS = ("build", "plan", "profiles list", "profiles show", "plugins graphs")
ONLY_REPEATABLE = [("check", "--clip"), *((command, "--profiles-folder") for command in WITH_FOLDERS)]
"""Paths, which may hold commas."""


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(leaves(main))
OPTIONS = [
    (path, option)
    for path, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
]


def long(option: click.Option) -> str:
    return max(option.opts, key=len)


def place(path: tuple[str, ...], option: click.Option) -> tuple[str, str]:
    return " ".join(path), long(option)


def those(kind: Any) -> Any:
    found = [pytest.param(*pair, id=" ".join(place(*pair))) for pair in OPTIONS if kind(*pair)]
    assert found
    return pytest.mark.parametrize(("path", "option"), found)


def is_list(path: tuple[str, ...], option: click.Option) -> bool:
    return option.multiple and place(path, option) not in (*ONE_ITEM, *ONLY_REPEATABLE)


def takes_one(path: tuple[str, ...], option: click.Option) -> bool:
    return not option.multiple and not option.is_flag


def parsed(path: tuple[str, ...], option: click.Option, *args: str) -> Any:
    context = COMMANDS[path].make_context(path[-1], list(args), resilient_parsing=True)
    return context.params[option.name or ""]


def refusal(path: tuple[str, ...], *args: str) -> str:
    """The line of a command that must not begin."""
    result = CliRunner().invoke(main, [*path, *args])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


def items_of(option: click.Option) -> tuple[str, str]:
    return TWO_ITEMS[str(option.metavar).split(",")[0]]


def test_the_walk_finds_commands_and_options() -> None:
    assert {("build",), ("profiles", "show"), ("plugins", "graphs")} <= COMMANDS.keys()
    places = [place(*pair) for pair in OPTIONS]
    assert {*ONE_ITEM, *ONLY_REPEATABLE} <= set(places)
    assert len(places) == len(set(places)) > 100


@those(takes_one)
def test_an_option_of_one_value_is_refused_twice(path: tuple[str, ...], option: click.Option) -> None:
    for flag in option.opts:
        line = refusal(path, flag, "first", long(option), "second")
        assert f"'{long(option)}'" in line
        assert "it takes one value, 'first' and 'second' are given" in line


@those(lambda _, option: option.is_flag)
def test_a_flag_given_twice_is_given(path: tuple[str, ...], option: click.Option) -> None:
    assert parsed(path, option, long(option), long(option)) is True


@those(lambda _, option: option.secondary_opts)
def test_a_flag_beside_its_opposite_is_refused(path: tuple[str, ...], option: click.Option) -> None:
    (opposite,) = option.secondary_opts
    assert f"{long(option)} and {opposite} are given" in refusal(path, long(option), opposite)
    assert parsed(path, option, opposite, opposite) is False


@those(is_list)
def test_a_list_is_comma_separated_and_repeatable(path: tuple[str, ...], option: click.Option) -> None:
    (first, second), flag = items_of(option), long(option)
    both = parsed(path, option, flag, f"{first},{second}")
    assert len(both) == 2
    assert both == (*parsed(path, option, flag, first), *parsed(path, option, flag, second))
    assert both == parsed(path, option, flag, first, flag, second)
    assert both == parsed(path, option, f"{flag}={first}, {second}", flag, second)[:2]


@those(lambda path, option: is_list(path, option) and option.metavar == "NAME,...")
def test_names_keep_their_order(path: tuple[str, ...], option: click.Option) -> None:
    assert parsed(path, option, long(option), "c", long(option), "a,b") == ("c", "a", "b")


@those(lambda path, option: option.multiple and place(path, option) not in ONLY_REPEATABLE)
@pytest.mark.parametrize("text", ["{0},,{1}", ",{0}", "{0},", "", " "])
def test_an_empty_item_is_refused_by_name(path: tuple[str, ...], option: click.Option, text: str) -> None:
    needed = [part for param in COMMANDS[path].params for part in required(param) if param is not option]
    given = text.format(*items_of(option))
    line = refusal(path, *needed, long(option), given)
    assert line == (
        f"Error: Invalid value for '{long(option)}': {given!r} has an empty item: "
        "write commas between items only"
    )


def required(param: click.Parameter) -> tuple[str, ...]:
    if not param.required:
        return ()
    return ("none",) if isinstance(param, click.Argument) else (param.opts[0], "none")


@pytest.mark.parametrize(("where", "pointer"), ONE_ITEM.items())
def test_a_list_of_one_item_says_where_several_are_taken(where: tuple[str, str], pointer: str) -> None:
    command, flag = where
    path, option = next(pair for pair in OPTIONS if place(*pair) == where)
    first, second = items_of(option)
    needed = [part for param in COMMANDS[path].params for part in required(param)]
    for given in ((flag, f"{first},{second}"), (flag, first, flag, second)):
        line = refusal((command,), *needed, *given)
        assert f"Invalid value for '{flag}': it takes one value, {first},{second} are given; " in line
        assert pointer in line
    assert parsed(path, option, flag, first, flag, first) == parsed(path, option, flag, first)


@pytest.mark.parametrize("where", ONLY_REPEATABLE)
def test_paths_are_repeatable_and_not_split(
    where: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.wav", "c.wav"):
        Path(name).mkdir()
    path, option = next(pair for pair in OPTIONS if place(*pair) == where)
    given = parsed(path, option, long(option), "a,b.wav", long(option), "c.wav")
    assert list(map(str, given)) == ["a,b.wav", "c.wav"]


@those(is_list)
def test_help_shows_a_list_in_one_way(path: tuple[str, ...], option: click.Option) -> None:
    assert str(option.metavar).endswith(",...")
    shown = " ".join(CliRunner().invoke(main, [*path, "--help"], terminal_width=1000).stdout.split())
    assert f"{long(option)} {option.metavar} {option.help}"[:60] in shown
    assert ". Comma list, repeatable." in str(option.help)
