"""The command line, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..profiles.errors import FastAdaSPError, FaultsError
from .commands.bench import bench
from .commands.build import build
from .commands.check import check
from .commands.command import OPTIONS, in_options
from .commands.compare import compare
from .commands.convert import convert
from .commands.eval import evaluate
from .commands.export_triton import export_triton
from .commands.families import families
from .commands.figures import figures
from .commands.inspect import inspect
from .commands.output import WORDS
from .commands.plan import plan
from .commands.plugins import plugins
from .commands.profiles import profiles
from .commands.report import report
from .commands.run import run
from .commands.select_layer import select_layer
from .commands.serve import serve
from .commands.transcribe import transcribe
from .commands.tune import tune
from .signals import INTERRUPTED, ended_by_signals

DISTRIBUTION = "fastadasp-export"
PACKAGES = "fastadasp"  # the logger of all their modules


class Fault(click.ClickException):
    """A fault of the input: `Error: …` on stderr, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """A group that lists its commands as they follow each other in use, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order they were added."""
        return list(self.commands)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of a run, which remembers the command line for the files that it leaves."""
        words = tuple(args)
        ctx = super().make_context(info_name, args, parent, **extra)
        ctx.meta[WORDS] = words
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Errors of the system name the file, those of the project all there is to know."""
        _print_any_name()
        try:
            with ended_by_signals(), _printed_log():
                return super().invoke(ctx)
        except FastAdaSPError as error:
            raise Fault(in_options(_message(error), ctx.meta.get(OPTIONS, {}))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: click ends in silence
                raise
            place = error.filename or "output"
            raise Fault(f"{place}: {error.strerror}; check the path, its permissions and the disk") from error
        except KeyboardInterrupt:
            click.echo("\nAborted!", err=True)  # as click says it, which would exit as after a fault: with 1
            ctx.exit(INTERRUPTED)


def _print_any_name() -> None:
    """What stdout cannot show, as names that are not UTF-8, is escaped: a table must not end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


class _Lines(logging.Handler):
    """Lines on stderr, each one once: a command may read a checkpoint several times."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        line = self.format(record)
        if line not in self._printed:
            self._printed.add(line)
            click.echo(line, err=True)


@contextmanager
def _printed_log() -> Iterator[None]:
    """What our packages log, as that something takes long, or that a setting is not used, goes to stderr."""
    log, lines = logging.getLogger(PACKAGES), _Lines()
    level = log.level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.setLevel(level)


def _message(error: FastAdaSPError) -> str:
    """One line, but for a list of faults, which has a line for each."""
    return str(error) if isinstance(error, FaultsError) else " ".join(str(error).splitlines())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=DISTRIBUTION)
def main() -> None:
    """Build speech language models into artifacts that process fewer audio tokens, and run them."""


for command in (
    convert,
    build,
    run,
    transcribe,
    serve,
    evaluate,
    compare,
    bench,
    plan,
    profiles,
    select_layer,
    tune,
    report,
    figures,
    inspect,
    check,
    families,
    export_triton,
    plugins,
):
    main.add_command(command)
