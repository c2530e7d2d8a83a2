"""The plugin library in TensorRT's registry, and what the ONNX parser of the wheel wants for its nodes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from importlib import util
from pathlib import Path
from typing import Any

from ..profiles.errors import DependencyError

NAMESPACE, VERSION = "fastadasp", "1"
PLUGINS = ("AttentionMass", "EvictTokens", "MergeEdges", "MergeTokens")
LOADED, WANTED = "libtensorrt_rtx.so.1", "libtensorrt_rtx.so"


def load_plugins(path: Path, trt: Any, version: str = VERSION) -> None:
    """Register the plugins of the library at `path` with `trt`, the module tensorrt or tensorrt_rtx.

    Raises:
        DependencyError: the library is missing or cannot be loaded, or lacks a plugin of this version.
    """
    if not path.is_file():
        raise DependencyError(
            f"{path}: no such plugin library; build it with `fastadasp-export plugins build`"
        )
    registry = trt.get_plugin_registry()
    if not set(PLUGINS) <= {name for name, found, _ in creators(registry) if found == version}:
        bare = path.parent == Path()  # such a name would be looked for elsewhere
        registry.load_library(f"./{path}" if bare else str(path))
    check_creators(registry, path, version)


def creators(registry: Any) -> set[tuple[str, str, str]]:
    """(name, version, namespace) of every creator of ours."""
    every = ((c.name, c.plugin_version, c.plugin_namespace) for c in registry.all_creators)
    return {creator for creator in every if creator[2] == NAMESPACE}


def check_creators(registry: Any, path: Path, wanted: str = VERSION) -> None:
    """Raise a DependencyError that names every plugin which is absent or of another version."""
    found = creators(registry)
    faults = []
    for name in PLUGINS:
        versions = sorted(version for other, version, _ in found if other == name)
        if wanted not in versions:
            faults.append(f"{name} has version {', '.join(versions)}" if versions else f"{name} is missing")
    if faults:
        remedy = f"version {wanted} is needed: build it again with `fastadasp-export plugins build`"
        raise DependencyError(f"{path}: {'; '.join(faults)}; {remedy}")


def provide_parser_library() -> None:
    """Let the ONNX parser of the tensorrt_rtx wheel open the library under the name it asks for.

    At the first plugin node it opens `libtensorrt_rtx.so`, but the wheel has only `libtensorrt_rtx.so.1`,
    and the failure ends the process.
    """
    spec = util.find_spec("tensorrt_rtx_libs")
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not (folder / LOADED).exists() or (folder / WANTED).exists():
        return
    try:
        (folder / WANTED).symlink_to(LOADED)
    except FileExistsError:  # another process was faster
        return
    except OSError:
        _load_stand_in(folder)


def _load_stand_in(folder: Path) -> None:
    """Where the wheel cannot be written: an empty library of that name, which depends on the real one."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise DependencyError(
            f"{folder} is read-only and there is no C compiler; link {WANTED} to {LOADED} there"
        )
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / WANTED
        source = ["-x", "c", "/dev/null", "-shared", "-fPIC", "-o", str(library)]
        link = [f"-Wl,-soname,{WANTED}", "-Wl,--no-as-needed", f"-L{folder}", f"-l:{LOADED}"]
        made = subprocess.run(
            [compiler, *source, "-x", "none", *link], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise DependencyError(
                f"{compiler} cannot link {WANTED} to {folder / LOADED}: {made.stderr.strip()}"
            )
        ctypes.CDLL(str(folder / LOADED))
        ctypes.CDLL(str(library))
