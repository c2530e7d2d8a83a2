"""Files that a command leaves: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ...profiles.errors import OutputError

PROFILE_SUFFIX = ".toml"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """As `write_json`, of any text."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(content, "utf-8")
        scratch.replace(path)
    except OSError as error:
        raise OutputError(f"output {path}: {error.strerror}; choose a file that can be written") from None
    finally:
        scratch.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """Tell before long work that its result has no place."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"output {path} is a folder; give a file")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"output {path}: {folder} is no folder that can be written; choose another")


def profile_name(path: Path) -> str:
    """A profile is called as its file.

    Raises:
        OutputError: the file would not be read as a profile.
    """
    if path.suffix != PROFILE_SUFFIX:
        ending = f"a profile is read by the ending {PROFILE_SUFFIX}"
        raise OutputError(f"output {path}: {ending}; give {path}{PROFILE_SUFFIX}")
    return path.stem
