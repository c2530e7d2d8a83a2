"""`fastadasp-export plugins`: the ops of this project as a library for TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .parameters import PATH

if TYPE_CHECKING:
    from ...plugins.build import PluginLibrary
    from ...runtime.report import Section


@click.group()
def plugins() -> None:
    """Build the reduction ops as plugins for TensorRT."""


@plugins.command()
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="DIR", help="Folder that receives the library."
)
@click.option(
    "--sm",
    "sms",
    type=click.IntRange(min=80),
    multiple=True,
    default=(80,),
    show_default=True,
    metavar="SM",
    help="Compute capability to compile for, 80 = 8.0; may be repeated.",
)
def build(output: Path, sms: tuple[int, ...]) -> None:
    """Compile the kernels and the plugins around them; no GPU is needed."""
    from ...plugins.build import build_plugins
    from ...runtime.report import console, show

    built = build_plugins(output, sms)
    capabilities = ", ".join(f"{sm // 10}.{sm % 10}" for sm in built.sms)
    lines = f"{built.path}: version {built.version}, compute capability {capabilities}"
    show(console(), (_resources(built), "", lines))


def _resources(built: PluginLibrary) -> Section:
    """One row for each cubin."""
    from ...runtime.report import Section, columns
    from ...runtime.units import size

    table = columns("kernel", "type", "SM", "head", "registers", "spilled", "shared", left=2)
    for kernel in built.resources:
        head = str(kernel.head_block or "-")
        figures = str(kernel.registers), size(kernel.spill_bytes), size(kernel.shared_bytes)
        table.add_row(kernel.name, kernel.type or "any", str(kernel.sm), head, *figures)
    legend = "head = largest head_dim; registers and spilled bytes of a thread; shared memory of a block"
    return Section("Kernels", table, legend)
