"""`fastadasp-export plugins`: the ops of this project as a library for TensorRT."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...profiles.profile import load_profiles
from ..options import ENGINE_PRECISIONS, EngineOptions
from .command import StrictCommand
from .lists import ListOf, list_option
from .parameters import PATH, profile_options, require

if TYPE_CHECKING:
    from ...plugins.build import PluginLibrary
    from ...runtime.tables.tables import Section


COMPUTE_CAPABILITIES: ListOf[int] = ListOf(
    "compute capabilities such as 80,90", partial(click.IntRange(min=80).convert, param=None, ctx=None)
)


@click.group(short_help="Build the reduction ops for TensorRT.")
def plugins() -> None:
    """Build the reduction ops as plugins for TensorRT."""


@plugins.command(cls=StrictCommand)
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="DIR", help="Folder that receives the library."
)
@list_option(
    "--sm",
    "sms",
    COMPUTE_CAPABILITIES,
    "Compute capabilities to compile for, 80 = 8.0 or above.",
    metavar="SM",
    default=(80,),
)
def build(output: Path, sms: tuple[int, ...]) -> None:
    """Compile the kernels and the plugins around them; no GPU is needed."""
    from ...plugins.build import LIBRARY, build_plugins
    from ...runtime.tables.tables import console, show
    from ..ownership import refuse_in_artifact

    refuse_in_artifact(output / LIBRARY)
    built = build_plugins(output, sms)
    capabilities = ", ".join(f"{sm // 10}.{sm % 10}" for sm in built.sms)
    lines = f"{built.path}: version {built.version}, compute capability {capabilities}"
    show(console(), (_resources(built), "", lines))


@plugins.command(cls=StrictCommand)
@click.argument("checkpoint", type=PATH)
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="DIR", help="New folder for graphs and weights."
)
@profile_options
@click.option(
    "--precision",
    type=click.Choice(ENGINE_PRECISIONS),
    default=EngineOptions.precision,
    show_default=True,
    help="Numbers of the graphs.",
)
def graphs(
    checkpoint: Path, output: Path, profiles: tuple[str, ...], folders: tuple[Path, ...], precision: str
) -> None:
    """Write the ONNX graphs of CHECKPOINT that use the plugins, for trtexec and Polygraphy."""
    require("onnx")
    chosen = load_profiles(profiles, folders)
    from ...plugins.tensorrt_library import provide_parser_library
    from ..engines.graphs_only import write_tensorrt_graphs

    provide_parser_library()  # or the tools that parse these graphs end at the first plugin node
    for path in write_tensorrt_graphs(checkpoint, output, chosen, precision):
        click.echo(path)


def _resources(built: PluginLibrary) -> Section:
    """One row for each cubin."""
    from ...runtime.tables.tables import Section, columns
    from ...runtime.tables.units import size

    table = columns("kernel", "type", "SM", "head", "registers", "spilled", "shared", left=2)
    for kernel in built.resources:
        head = str(kernel.head_block or "-")
        figures = str(kernel.registers), size(kernel.spill_bytes), size(kernel.shared_bytes)
        table.add_row(kernel.name, kernel.type or "any", str(kernel.sm), head, *figures)
    legend = "head = largest head_dim; registers and spilled bytes of a thread; shared memory of a block"
    return Section("Kernels", table, legend)
