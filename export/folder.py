"""An output folder that appears whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..profiles.errors import OutputError
from ..runtime.artifact.manifest import FILE_NAME


def check_output(output: Path, force: bool) -> None:
    """Refuse a place that an artifact cannot take, or where something else is.

    Raises:
        OutputError: with the remedy.
    """
    if output.exists() and not force:
        raise OutputError(f"output {output} exists; give another folder, or --force to replace it")
    if output.exists() and not (output / FILE_NAME).is_file():
        raise OutputError(f"output {output} is not an artifact; --force replaces artifacts only")
    nearest = next(parent for parent in output.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"output {output}: {nearest} is a file; choose another folder")


@contextmanager
def temporary_folder(output: Path, force: bool) -> Iterator[Path]:
    """A folder beside `output` that takes its name on success and vanishes on failure."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise OutputError(f"output {output}: {error.strerror}; choose a folder that can be written") from None
    try:
        yield folder
        folder.chmod(0o755)
        if force and output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"output {output}: the disk is full; free some space and build again") from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
