"""The two files of recorded outputs, of whatever form, read with one set of messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from ....profiles.errors import CheckpointError, DependencyError
from ....profiles.json_text import JsonError, read_object

FILES = ("golden.json", "golden.safetensors")

Recorded = TypeVar("Recorded")
Arrays = Mapping[str, npt.NDArray[Any]]


def read_recorded(folder: Path, parse: Callable[[Mapping[str, Any], Arrays], Recorded]) -> Recorded:
    """What `parse` makes of the settings and arrays of a folder; its own errors are those of Python.

    Raises:
        CheckpointError: the recording is incomplete or broken.
        DependencyError: safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise DependencyError('safetensors is missing: pip install "fastadasp-export[export]"') from None
    if missing := [f"{name} is missing" for name in FILES if not (folder / name).is_file()]:
        raise CheckpointError(f"recorded outputs {folder}: {'; '.join(missing)}")
    try:
        content = read_object((folder / FILES[0]).read_bytes(), lenient=True)
        return parse(content, load_file(folder / FILES[1]))
    except JsonError as error:
        raise CheckpointError(
            f"recorded outputs {folder}: {FILES[0]} {error}; copy or record them again"
        ) from None
    except (LookupError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        fault = f"no {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"recorded outputs {folder}: {fault}; copy or record them again") from None
