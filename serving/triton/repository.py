"""The folder of a model in a model repository: its description, its program, and the artifact.

    NAME/config.pbtxt
    NAME/1/model.py
    NAME/1/artifact/

Nothing in it refers to a place outside, so that a repository can be moved, mounted or put into an image.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ...profiles.errors import OutputError
from ...runtime.artifact.artifact import Artifact, open_artifact
from ...runtime.artifact.manifest import FILE_NAME
from .config import TritonModel

VERSION = "1"
CONFIG, PROGRAM, ARTIFACT = "config.pbtxt", f"{VERSION}/model.py", f"{VERSION}/artifact"
SOURCE = Path(__file__).with_name("model.py")


def write_model(folder: Path, artifact: Artifact, model: TritonModel, mode: str) -> None:
    """Write a model into an empty folder, and verify what became of the artifact.

    Args:
        folder: that of the model, which the repository knows by its name.
        artifact: verified; the files of its manifest, and no others, are taken.
        model: its name and how it is loaded.
        mode: "link" for hard links to the artifact's files, "copy" for copies.

    Raises:
        OutputError: the files cannot be linked, because artifact and repository are on two disks.
        ArtifactError: a file has changed meanwhile.
    """
    place = folder / ARTIFACT
    place.mkdir(parents=True)
    for name in (FILE_NAME, *artifact.manifest.files):  # the manifest was checked: no name leaves the folder
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        _take((artifact.folder / name).resolve(), place / name, mode)
    open_artifact(place, verify="always" if mode == "copy" else "cached")
    shutil.copyfile(SOURCE, folder / PROGRAM)
    (folder / CONFIG).write_text(model.config(), "utf-8")


def files_of_model(folder: Path, artifact: Iterable[str]) -> frozenset[str]:
    """The files that a model consists of, by those of its artifact, and what a server has left there."""
    compiled = (folder / VERSION).glob("__pycache__/model.*.pyc")
    left = (path.relative_to(folder).as_posix() for path in compiled)
    return frozenset({CONFIG, PROGRAM, *(f"{ARTIFACT}/{name}" for name in artifact), *left})


def _take(source: Path, target: Path, mode: str) -> None:
    if mode == "copy":
        shutil.copyfile(source, target)
        return
    try:
        os.link(source, target)
    except OSError as error:
        raise OutputError(
            f"{source}: cannot be hard-linked into the repository ({error.strerror}); use --files copy"
        ) from None
