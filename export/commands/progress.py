"""How far long work is, on stderr: a bar with the time that is left, or now and then a line for a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Tick = Callable[[str, int, int], None]
"""Takes what is being done, the steps done and the steps in all."""

EVERY = 10.0  # seconds between two lines


@contextmanager
def progress_bar(label: str) -> Iterator[Tick]:
    """Show a bar on a terminal, or lines; what is yielded moves it on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ...runtime.tables.tables import console

    screen = console(stderr=True)
    if not screen.is_terminal:
        lines = Lines()
        yield lines.tick
        lines.end()
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(label, total=None)

        def tick(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        yield tick


class Lines:
    """Lines for a log: none of work that is soon done, then one each `EVERY` seconds and one at the end."""

    def __init__(self) -> None:
        self._due = time.monotonic() + EVERY
        self._last = self._said = ""

    def tick(self, label: str, done: int, total: int) -> None:
        """The work has got so far."""
        self.say(f"{label}: {done} of {total}")

    def say(self, line: str) -> None:
        """Print a line if it is time for one."""
        self._last = line
        if time.monotonic() >= self._due:
            self._print()

    def end(self) -> None:
        """The work is done: print how far it was, where there were lines before."""
        if self._said not in ("", self._last):
            self._print()

    def _print(self) -> None:
        click.echo(self._last, err=True)
        self._said, self._due = self._last, time.monotonic() + EVERY
