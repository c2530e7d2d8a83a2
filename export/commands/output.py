"""Files that a command leaves: whole or not at all, and never in place of what it reads."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...profiles.errors import OutputError
from ...profiles.keys import NAME_RULE, name_fault
from ...profiles.methods import FULL
from ...profiles.profile import Profile, profile_to_toml
from ...runtime.choice.target import AUTO
from ..file import is_own_stdout, is_stream, write_file
from ..scratch import remove_leftovers

PROFILE_SUFFIX = ".toml"
WRITTEN = "# written by fastadasp-export "
"""How a profile begins that a command wrote, so that another run may replace it."""
TAKEN = {AUTO: "what requests give to have one chosen", FULL: "that which reduces nothing"}
"""Names that a profile of a user's own cannot have beside `full` in an artifact -> what they mean."""

if TYPE_CHECKING:
    from ...evaluation.results.files import Result
    from ...runtime.tables.tables import Section

WORDS = "fastadasp.words"
"""Where the context of a run keeps the words of its command line."""
Beside = Callable[[Path], Path]
"""The place of a file or folder that is kept beside an output while its command is at work."""


def command_line() -> str:
    """The command line of this run, quoted so that a shell takes it."""
    from ...evaluation.results.files import PROGRAM

    words: tuple[str, ...] = click.get_current_context().meta[WORDS]
    return shlex.join((PROGRAM, *words))


def write_result(path: Path, found: Result) -> None:
    """Write a result file with the command line that made it, whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    from ...evaluation.results.files import result_text

    write_text(path, result_text(found, command_line()))


def write_text(path: Path, content: str) -> None:
    """As `write_result`, of any text."""
    try:
        write_file(path, content.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"output {path}: {error.strerror}; choose a file that can be written") from None


def write_profile(path: Path, profile: Profile) -> None:
    """As `write_result`, of a profile."""
    command = click.get_current_context().info_name
    write_text(path, f"{WRITTEN}{command}\n{profile_to_toml(profile)}")


@contextmanager
def shown_at_the_end() -> Iterator[list[Iterable[Section | str]]]:
    """The tables that are appended are shown once all that is within has ended, or failed.

    So files are written first, for the reader of tables may be gone; and what was measured is shown even if
    they cannot be.
    """
    from ...runtime.tables.tables import console, show

    tables: list[Iterable[Section | str]] = []
    try:
        yield tables
    finally:
        if tables:
            show(console(), chain.from_iterable(tables))


def show_result(found: Result, sections: Iterable[Section | str], output: Path | None) -> None:
    """Write a result file where one is wanted, and show its tables, even if it cannot be written."""
    with shown_at_the_end() as tables:
        tables.append(sections)
        if output is not None:
            write_result(output, found)
            click.echo(f"results in {output}", err=True)


def check_output(path: Path | None, reads: Iterable[Path | None] = (), beside: Iterable[Beside] = ()) -> None:
    """Tell before long work that its result has no place. What a killed run has left there is removed.

    Where the result goes to stdout, it stands there alone: from now on all that the command prints goes to
    stderr.

    Args:
        path: the output; None: there is none.
        reads: files and folders that the command reads, as `refuse_inputs` takes them.
        beside: what is written beside the output, unless that is a device or a pipe.

    Raises:
        OutputError: with the remedy.
    """
    if path is None:
        return
    if path.suffix == PROFILE_SUFFIX and not is_stream(path):
        named = path.with_suffix(".json").name
        raise OutputError(
            f"output {path}: files that end with {PROFILE_SUFFIX} are profiles; give, say, {named}"
        )
    _check_output(path, reads, beside)


def check_profile_output(path: Path, reads: Iterable[Path | None], beside: Iterable[Beside] = ()) -> None:
    """As `check_output`, of a profile, which replaces none that someone else wrote."""
    _check_output(path, reads, beside)
    if is_stream(path) or not path.is_file():
        return
    try:
        with path.open("rb") as file:
            begin = file.read(len(WRITTEN))
    except OSError as error:
        raise OutputError(f"output {path}: {error.strerror}; give another file") from None
    if begin not in (b"", WRITTEN.encode()):
        raise OutputError(f"output {path} is there, and no command wrote it; give another, or move it away")


def _check_output(path: Path, reads: Iterable[Path | None], beside: Iterable[Beside]) -> None:
    _check_place(path)
    if is_own_stdout(path):
        click.get_current_context().with_resource(redirect_stdout(sys.stderr))
    if not is_stream(path):
        refuse_inputs(path, reads, [place(path) for place in beside])
        for line in remove_leftovers(Path(os.path.realpath(path))):
            click.echo(line, err=True)


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"output {path} is a folder; give a file")
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise OutputError(f"output {path} cannot be written; choose another")
        return
    place = Path(os.path.realpath(path))
    if place.is_symlink() or (place.exists() and not place.is_file()):
        raise OutputError(f"output {path} is no file; choose another")
    if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        where = place.parent if path.is_symlink() else path.parent
        raise OutputError(f"output {path}: {where} is no folder that can be written; choose another")


def refuse_inputs(output: Path, reads: Iterable[Path | None], beside: Iterable[Path] = ()) -> None:
    """Refuse an output in place of what its command reads, in a folder that it reads whole or in an artifact.

    Two paths are one file if they are to the system: over links, or where names differ in case alone.

    Args:
        output: a file or folder, which need not be there.
        reads: files; and folders in which nothing is foreign, as artifacts. None: an option is not given.
        beside: files and folders that are written, and removed, with the output.

    Raises:
        OutputError: with the remedy.
    """
    identified = ((_identity(read), read) for read in reads if read is not None)
    known: dict[tuple[int, int] | None, Path] = {
        found: read for found, read in identified if found is not None
    }
    for read in filter(None, map(known.get, map(_identity, _upwards(output)))):
        raise OutputError(f"output {output} would {_harm(output, read)}")
    known |= {
        found: file for read in known.values() for file in _files_in(read) if (found := _identity(file))
    }
    if named := known.get(_identity(output)):  # in a folder of those, by a name outside of it
        raise OutputError(f"output {output} would {_harm(output, named)}")
    folders = dict.fromkeys(read.parent for read in known.values())
    for place in beside:
        own = _identity(place)
        around = (folder for folder in folders if own and own in map(_identity, _upwards(folder)))
        for read in filter(None, (*map(known.get, map(_identity, _upwards(place))), *around)):
            lost = f"would replace {read}, which is read"
            raise OutputError(f"output {output}: what is kept beside it {lost}; give another file")
    from ..ownership import refuse_in_artifact

    refuse_in_artifact(output)


def _files_in(read: Path) -> Iterator[Path]:
    """All files of a folder that is read whole; none of a file."""
    return (path for path in read.rglob("*") if path.is_file()) if read.is_dir() else iter(())


def _harm(output: Path, read: Path) -> str:
    """What an output in place of what is read, or in it, would do, and the remedy."""
    if not read.is_dir():
        return f"replace {read}, which is read; give another file"
    how = "replace a file of" if output.is_file() else "add to"
    return f"{how} {read}, which is read whole; give a place outside of it"


def _upwards(path: Path) -> tuple[Path, ...]:
    """Where a path leads, its links followed, and the folders around that."""
    place = Path(os.path.realpath(path))
    return place, *place.parents


def _identity(path: Path) -> tuple[int, int] | None:
    """What the system knows a file or folder by; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_two(first: Path | None, second: Path | None) -> None:
    """Refuse two outputs in one file; OutputError. Devices and pipes take both."""
    if first is None or second is None or is_stream(first):
        return
    if os.path.realpath(first) == os.path.realpath(second):
        raise OutputError(f"output {first} is given twice; give -o and --json a file each")


def kept_beside(path: Path | None) -> Path | None:
    """The output beside which a stopped run is kept; None where nothing can be, as beside a device."""
    return None if path is None or is_stream(path) else path


def check_restart(restart: bool, output: Path | None, flags: str = "-o") -> None:
    """Refuse to forget what is kept beside an output where there is none; click.UsageError."""
    if restart and kept_beside(output) is None:
        raise click.UsageError(f"--restart: nothing is kept without {flags}; leave it out, or give {flags}")


@contextmanager
def telling_what_is_kept(kept: Path | None) -> Iterator[None]:
    """Where a signal ends what is done within, say on stderr what is left for the next run."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if kept is not None and kept.exists():
            click.echo(f"stopped; {kept} is kept, from which {what_goes_on()}", err=True)
        raise


def what_goes_on() -> str:
    """The command that goes on from what a run has kept: without the flags that forget some of it."""
    given = click.get_current_context().params
    flags = [f"--{name.replace('_', '-')}" for name in ("restart", "retry_failed") if given.get(name)]
    return f"the same command{' without ' * bool(flags)}{' and '.join(flags)} goes on"


@contextmanager
def work_beside(output: Path | None, *, restart: bool) -> Iterator[Path]:
    """The work folder of an output, as `work_folder` has it; a run that is stopped says where it is."""
    from ...evaluation.answers.work_folder import work_folder, work_folder_of

    kept = kept_beside(output)
    with (
        telling_what_is_kept(None if kept is None else work_folder_of(kept)),
        work_folder(kept, restart=restart) as folder,
    ):
        yield folder


def profile_name(path: Path) -> str:
    """A profile is called as its file.

    Raises:
        OutputError: the file would not be read as a profile, or no profile beside `full` can have its name.
    """
    if path.suffix != PROFILE_SUFFIX:
        ending = f"a profile is read by the ending {PROFILE_SUFFIX}"
        place = f"a file such as tuned{PROFILE_SUFFIX}" if is_stream(path) else f"{path}{PROFILE_SUFFIX}"
        raise OutputError(f"output {path}: {ending}; give {place}")
    if any(name_fault(path.stem)):
        no_name = f"-o names the profile, too, and {path.stem!r} is no name of one"
        raise OutputError(f"output {path}: {no_name}; {NAME_RULE}")
    if meaning := TAKEN.get(path.stem):
        raise OutputError(
            f"output {path}: -o names the profile, too, and {path.stem} is {meaning}; give another"
        )
    return path.stem
