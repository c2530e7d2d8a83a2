"""`fastadasp-export plan`: what profiles would cost on devices that are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...profiles.profile import load_profiles, profile_file
from ..model.formats import QUANTIZED
from ..options import PRECISIONS
from ..prediction.devices import CPU, DEVICES
from ..prediction.options import PROFILES, PlanOptions
from .case_parameters import case_options, int4_block_option
from .command import StrictCommand
from .lists import NAMES, each_once, list_option
from .lists import PROFILES as PROFILE_LIST
from .output import check_output, show_result
from .parameters import PATH, profile_folders, refuse_auto, require

if TYPE_CHECKING:
    from ...evaluation.results.files import ResultFile
    from ...runtime.benchmark.records import Benchmark

DEFAULTS = PlanOptions(())


@click.command(cls=StrictCommand, short_help="Predict latency on devices not at hand.")
@click.argument("checkpoint", type=PATH)
@list_option(
    "--device",
    "devices",
    NAMES,
    f"Of {', '.join(DEVICES)} and {CPU}: this machine's, which is measured for 2 s.",
    default=DEFAULTS.devices,
    arrange=each_once,
)
@list_option(
    "--profile", "profiles", PROFILE_LIST, "Profiles, or .toml files.", default=PROFILES, arrange=each_once
)
@profile_folders
@case_options(lambda field: {"default": getattr(DEFAULTS, field)})
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of a GPU's numbers.  [default: bf16, or fp16 where there is none; fp32 on the CPU]",
)
@click.option("--quantize", type=click.Choice(QUANTIZED), help="The large matrices in fewer bits.")
@int4_block_option
@click.option(
    "--new-tokens",
    type=int,
    default=DEFAULTS.new_tokens,
    show_default=True,
    help="Tokens of each answer.",
)
@click.option(
    "--text-tokens",
    "text_rows",
    type=int,
    default=DEFAULTS.text_rows,
    show_default=True,
    metavar="N",
    help="Rows of the prompt that are text.",
)
@click.option("--max-positions", type=click.IntRange(min=1), help="More positions than the checkpoint has.")
@click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="Threads of the CPU; 0 takes one per core."
)
@click.option(
    "--calibrate", type=PATH, metavar="FILE", help="Fit the device that a result file of bench is of to it."
)
@click.option("--published", is_flag=True, help="Predict the published table of latencies (Table 12), too.")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write all figures as JSON, for report.")
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    checkpoint: Path,
    profiles: tuple[str, ...],
    folders: tuple[Path, ...],
    calibrate: Path | None,
    published: bool,
    output: Path | None,
    int4_block: str,
    **values: Any,
) -> None:
    """Predict latency, memory and where profiles pay, for CHECKPOINT on devices that need not be there.

    Of CHECKPOINT the settings are enough: weights are neither needed nor read. Every number that a prediction
    rests on is printed with its source. Exits with 1 where every length was skipped.
    """
    refuse_auto(profiles, "it is chosen by figures of an artifact, and a plan is of a checkpoint")
    options = PlanOptions(load_profiles(profiles, folders), int4_block=int(int4_block), **values)
    check_output(output, (checkpoint, calibrate, *(profile_file(name, folders) for name in profiles)))
    require("onnx", "safetensors")
    from ..prediction.plan import plan as predicted
    from ..prediction.table import plan_sections

    file = None if calibrate is None else _benchmark(calibrate)
    found = predicted(checkpoint, options, file, published)
    show_result(found, plan_sections(found), output)
    if all(case.skipped for case in found.cases):
        click.echo(
            "nothing was predicted: every length of audio was skipped, for the reasons above", err=True
        )
        ctx.exit(1)


def _benchmark(path: Path) -> ResultFile[Benchmark]:
    """A result file of `bench`.

    Raises:
        ResultsError: it cannot be read, or is of another command.
    """
    from ...evaluation.results.files import read_results
    from ...profiles.errors import ResultsError
    from ...runtime.benchmark.records import Benchmark

    results = read_results([path])
    if not (found := results.of(Benchmark)):
        kind = results.files[0].kind
        raise ResultsError(f"{path} is a file of {kind}; a plan is calibrated by one of bench")
    return found[0]
