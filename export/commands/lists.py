"""Options that take a list, in one grammar: comma separated (`--profile a,b`), repeatable, or both at once.

Order is kept. Options for files of audio, whose names may hold commas, are repeatable only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Generic, TypeVar

import click

from .command import Command

Item = TypeVar("Item")


@dataclass(frozen=True)
class ListOf(Generic[Item]):
    """What stands between the commas: how one item is read and shown."""

    kind: str  # as in "this is no list of numbers such as 1,5"
    read: Callable[[str], Item]
    show: Callable[[Item], str] = str
    files: bool = False  # an item may be a path

    def items(self, text: str) -> tuple[Item, ...]:
        """The items of one text.

        Raises:
            click.BadParameter: an empty item, or one that is not of the kind.
        """
        parts = self._split(text)
        if "" in parts:
            raise click.BadParameter(f"{text!r} has an empty item: write commas between items only")
        try:
            return tuple(map(self.read, parts))
        except (ValueError, ZeroDivisionError):
            raise click.BadParameter(f"{text!r} is no list of {self.kind}") from None

    def text(self, items: Iterable[Item]) -> str:
        """Items as one text."""
        return ",".join(map(self.show, items))

    def _split(self, text: str) -> list[str]:
        """An existing file is one item, whatever its name holds."""
        if self.files and os.path.isfile(text):  # noqa: PTH113  # that of `Path` fails for a long list
            return [text]
        return [part.strip() for part in text.split(",")]


def layer_and_head(text: str) -> tuple[int, int]:
    """A head by its layer and its number in it."""
    layer, head = map(int, text.split("."))
    return layer, head


def percent(text: str) -> Fraction:
    """A percentage as an exact share of 1, between 0 and 1."""
    share = Fraction(text) / 100
    if not 0 < share < 1:
        raise click.BadParameter(f"{text} is not between 0 and 100")
    return share


NAMES = ListOf("names such as a,b", str)
PROFILES = ListOf("profiles such as full,mine.toml", str, files=True)
FILES = ListOf("files such as a.json,b.json", str, files=True)
INTEGERS = ListOf("numbers such as 1,5", int)
REALS = ListOf("numbers such as 1,5", float, "{:g}".format)
LAYERS = ListOf("layers such as 0,2", int)
HEADS = ListOf("heads such as 7.0,7.1", layer_and_head, lambda head: f"{head[0]}.{head[1]}")
PERCENTS = ListOf("percentages such as 10,20", percent, lambda share: f"{float(100 * share):g}")


NO_IDS = "none"


def each_once(items: Iterable[Item]) -> tuple[Item, ...]:
    """Items in their order, without repetitions."""
    return tuple(dict.fromkeys(items))


def rising(items: Iterable[Any]) -> tuple[Any, ...]:
    """Items by size, without repetitions."""
    return tuple(sorted(set(items)))


def list_option(
    flag: str,
    field: str,
    items: ListOf[Item],
    help: str,
    *,
    metavar: str = "NAME",
    default: Sequence[Item] = (),
    otherwise: str = "",
    required: bool = False,
    arrange: Callable[[Iterable[Item]], tuple[Item, ...]] = tuple,
) -> Callable[[Command], Command]:
    """An option that gives a command its items as `arrange` leaves them.

    Without a `default`, `otherwise` says in the help what is taken then.
    """
    shown = f"  [default: {otherwise}]" if otherwise else ""
    return click.option(
        flag,
        field,
        multiple=True,
        required=required,
        default=[items.text(default)] if default else None,
        show_default=bool(default),
        callback=lambda ctx, param, texts: arrange(_all_items(items, texts)),
        metavar=f"{metavar},...",
        help=f"{help} Comma list, repeatable.{shown}",
    )


def ids_option(flag: str, field: str, help: str, whose: str) -> Callable[[Command], Command]:
    """An option for a list of token ids that may also be none of them; without it the field is None.

    Its help says `whose` ids those are then.
    """

    def ids(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> tuple[int, ...] | None:
        if list(texts) == [NO_IDS]:
            return ()
        return each_once(_all_items(INTEGERS, texts)) or None

    return click.option(
        flag,
        field,
        multiple=True,
        callback=ids,
        metavar="N,...",
        help=f"{help} Comma list, repeatable. {NO_IDS!r}: none.  [default: the {whose}'s]",
    )


def one_option(
    flag: str,
    field: str,
    items: ListOf[Item],
    help: str,
    *,
    instead: str,
    metavar: str = "NAME",
    default: Item | None = None,
) -> Callable[[Command], Command]:
    """An option of the same grammar that takes one item only; `instead` says which command takes several."""

    def only(ctx: click.Context, param: click.Parameter, texts: Iterable[str]) -> Item | None:
        given = each_once(_all_items(items, texts))
        if len(given) > 1:
            raise click.BadParameter(f"it takes one value, {items.text(given)} are given; {instead}")
        return given[0] if given else None

    return click.option(
        flag,
        field,
        multiple=True,
        default=None if default is None else [items.show(default)],
        show_default=default is not None,
        callback=only,
        metavar=metavar,
        help=help,
    )


def _all_items(items: ListOf[Item], texts: Iterable[str]) -> Iterator[Item]:
    for text in texts:
        yield from items.items(text)
