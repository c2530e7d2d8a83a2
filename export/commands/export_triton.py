"""`fastadasp-export export-triton`: an artifact as a model of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...profiles.errors import RequestError
from ...runtime.backend_options import CpuOptions
from ...runtime.backends import backend_named
from ...runtime.runtime_options import RuntimeKeywords
from ...runtime.runtime_options import runtime_options as runtime_of
from .command import StrictCommand
from .lists import NAMES, one_option
from .output import refuse_inputs
from .parameters import PATH, backend_options_of, batch_option, runtime_options, verify_of

if TYPE_CHECKING:
    from ...runtime.artifact.artifact import Artifact
    from ..ownership import Kind

MODES = ("link", "copy")
DEFAULT_QUEUE = 64


@click.command("export-triton", cls=StrictCommand, short_help="Write an artifact as a model for Triton.")
@click.argument("artifact", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="MODEL_REPOSITORY",
    help="Folder of models, which the server is started with; it may hold others.",
)
@click.option("--name", metavar="TEXT", help="Of the model.  [default: that of the artifact's folder]")
@one_option(
    "--profile",
    "profile",
    NAMES,
    "Of requests that name none.  [default: the artifact's first one]",
    instead="requests name any of them",
)
@click.option(
    "--instances",
    type=int,
    default=1,
    show_default=True,
    help="Processes of the model, each with the artifact loaded once.",
)
@batch_option
@click.option(
    "--max-queue",
    type=click.IntRange(min=0),
    default=DEFAULT_QUEUE,
    show_default=True,
    help="Requests that may wait in each process beside those; more are refused as UNAVAILABLE.",
)
@click.option(
    "--files",
    type=click.Choice(MODES),
    default=MODES[0],
    show_default=True,
    help="Hard links to the artifact's files, or copies.",
)
@click.option("--force", is_flag=True, help="Replace the model of that name, if this command has written it.")
@runtime_options
def export_triton(artifact: Path, output: Path, name: str | None, force: bool, **values: Any) -> None:
    """Write ARTIFACT as a model of NVIDIA's Triton Inference Server into MODEL_REPOSITORY.

    The model runs in the server's Python backend, whose Python needs this package. Text is streamed.
    """
    from ...runtime.artifact.artifact import open_artifact
    from ...serving.triton.config import TritonModel
    from ...serving.triton.repository import write_model
    from ..folder import check_output, temporary_folder

    opened = open_artifact(artifact, verify=verify_of(values["verify"]))
    name = artifact.resolve().name if name is None else name
    profile = _checked_profile(opened, values["profile"], values["backend"])
    known, options = tuple(opened.manifest.profiles), _load_options(values)
    model = TritonModel(name, profile, known, options, values["instances"])
    place = output / name
    refuse_inputs(place, (artifact,))
    kind = _triton_model()
    check_output(place, force, lambda line: click.echo(line, err=True), kind)
    with temporary_folder(place, force, kind) as folder:
        write_model(folder, opened, model, values["files"])
    click.echo(
        f"{place}: model {name}, profile {profile}; serve it with tritonserver --model-repository {output}"
    )


def _checked_profile(artifact: Artifact, given: str | None, backend: str) -> str:
    """The default profile of the model, which must be able to run.

    Raises:
        RequestError: unknown profile, or no tokenizer.
        ArtifactError: no graphs for the backend.
    """
    known = tuple(artifact.manifest.profiles)
    profile = known[0] if given is None else given
    if profile not in known:
        raise RequestError(f"profile {profile} is not in {artifact.folder}; it has: {', '.join(known)}")
    from ...runtime.artifact.artifact import NO_TOKENIZER

    if not artifact.has_tokenizer:
        raise RequestError(f"artifact {artifact.folder}: {NO_TOKENIZER}")
    if backend != "tensorrt":  # which runs engines; whether they fit is known on the GPU alone
        artifact.graphs(backend_named(backend).target)
    return profile


def _load_options(values: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `SpeechLM.load` in a process that shares its machine with others of its kind.

    Raises:
        RequestError: options out of range, or that the backend does not have.
    """
    backend, given = values["backend"], backend_options_of(values)
    given["max_queue"] = values["max_queue"]
    found = runtime_of(backend, **given)
    threads: RuntimeKeywords = {"threads": 1} if isinstance(found.options, CpuOptions) else {}
    return {"backend": backend, **threads, **given}


def _triton_model() -> Kind:
    """Folders that this command writes, and so may replace."""
    from ...serving.triton.repository import ARTIFACT, files_of_model
    from ..ownership import Kind, listed_files

    def files(folder: Path) -> frozenset[str] | None:
        listed = listed_files(folder / ARTIFACT)
        return None if listed is None else files_of_model(folder, listed)

    return Kind("a", "Triton model", files)
