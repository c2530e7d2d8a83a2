"""What every command is: a click command that loses no value without a word, and tells faults of its options
by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
"""A function that is, or becomes, a command: what decorators of options take and give."""


OPTIONS = "fastadasp.options"
"""Where the context of a run keeps the options of its command: name in Python -> as it is typed."""


def in_options(message: str, options: Mapping[str, str]) -> str:
    """A message on values of options, such as `num_beams is 0`, with the names as they are typed: `--beams`.

    One that begins with a place, as those on files do, stays as it is.
    """
    names = "|".join(map(re.escape, options))
    named = re.compile(
        rf"(^|; | and )({names})(?=: | (?:is|are|and|exclude)\b| -?\d+(?:\.\d+)?(?:[;:,]| |$))"
    )
    return named.sub(lambda found: found[1] + options[found[2]], message) if named.match(message) else message


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """The command with these options; its help lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


class StrictCommand(click.Command):
    """A command that refuses an option of one value that is given twice, where click takes the last one; and
    a flag beside its opposite.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it.

        Raises:
            click.BadParameter: an option of one value has several.
        """
        ctx.meta[OPTIONS] = {
            option.name: max(option.opts, key=len)
            for option in self.params
            if isinstance(option, click.Option)
        }
        if not ctx.resilient_parsing:  # as for completion in a shell
            self._refuse_repeated(ctx, list(args))
        return super().parse_args(ctx, args)

    def _refuse_repeated(self, ctx: click.Context, args: list[str]) -> None:
        """Parse once more, and keep every value that is given."""
        single = [param for param in self.params if isinstance(param, click.Option) and _takes_one(param)]
        parser = self.make_parser(ctx)
        for option in single:
            parser.add_option(option, option.opts, option.name, action="append", nargs=option.nargs)
        pairs = [param for param in self.params if isinstance(param, click.Option) and param.secondary_opts]
        for option in pairs:
            for names, value in ((option.opts, True), (option.secondary_opts, False)):
                parser.add_option(option, names, option.name, action="append_const", const=value)
        given, _, _ = parser.parse_args(args)
        for option in pairs:
            if len(set(given.get(option.name or "", ()))) > 1:
                both = " and ".join((*option.opts, *option.secondary_opts))
                raise click.BadParameter(f"{both} are given; give one of them", ctx, option)
        for option in single:
            if len(values := given.get(option.name or "", ())) > 1:
                texts = " and ".join(map(repr, values))
                raise click.BadParameter(f"it takes one value, {texts} are given", ctx, option)


def _takes_one(option: click.Option) -> bool:
    """Flags say the same however often they are given."""
    return not (option.multiple or option.is_flag or option.count)
