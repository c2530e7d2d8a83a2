"""Whether a folder is an artifact of ours, of any format, and what is in it that is no part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..profiles.errors import OutputError
from ..profiles.json_text import JsonError, read_object
from ..runtime.artifact.manifest import FILE_NAME, digest_of

HASHES = {"sha256", "blake3"}  # of files, one of them in each format


class DamagedManifestError(OutputError):
    """A manifest that does not tell what belongs to its artifact."""


def listed_files(folder: Path) -> frozenset[str] | None:
    """The files that an artifact consists of; None where the folder is none of ours.

    Raises:
        DamagedManifestError: the manifest cannot be read, or was changed: it may list what is not ours.
    """
    try:
        content = read_object((folder / FILE_NAME).read_bytes())
    except OSError:
        return None
    except JsonError as error:
        raise DamagedManifestError(f"{FILE_NAME} cannot be read ({error})") from None
    if not _is_ours(content):
        return None
    if content.pop("digest", None) != digest_of(content):
        raise DamagedManifestError(f"{FILE_NAME} was changed: its content does not match its digest")
    return frozenset({*content["files"], FILE_NAME})


def refuse_in_artifact(output: Path) -> None:
    """Refuse an output in an artifact: it would be foreign there, and the artifact could not be replaced.

    Raises:
        OutputError: with the remedy.
    """
    for folder in Path(os.path.realpath(output)).parents:
        with suppress(DamagedManifestError):  # it may be no manifest of ours
            if listed_files(folder) is not None:
                raise OutputError(f"output {output} is in the artifact {folder}; give a place outside of it")


@dataclass(frozen=True)
class Kind:
    """Folders of one kind that we write, and so may replace."""

    article: str
    name: str
    listed_files: Callable[[Path], frozenset[str] | None]  # as the function of that name


ARTIFACT = Kind("an", "artifact", listed_files)


def foreign_entries(folder: Path, listed: frozenset[str]) -> list[str]:
    """What else the folder holds, by path within it."""
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    return sorted(name for name in _entries(folder) if name.rstrip("/") not in listed | folders)


def _is_ours(content: Mapping[str, Any]) -> bool:
    """By what every format has had: a version, a family, and a table of files with sizes and hashes."""
    version, files = content.get("format_version"), content.get("files")
    return (
        isinstance(version, int)
        and isinstance(content.get("family"), str)
        and isinstance(files, dict)
        and bool(files)
        and all(_is_record(record) for record in files.values())
    )


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and "size" in record and bool(HASHES & record.keys())


def _entries(folder: Path) -> Iterator[str]:
    """Every file, link and folder below; a folder ends with a slash."""
    for place, folders, files in os.walk(folder):
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (str(inside / name) for name in (*files, *links))
        yield from (f"{inside / name}/" for name in folders if name not in links)
