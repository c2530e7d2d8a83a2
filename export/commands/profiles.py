"""`fastadasp-export profiles`: which there are, and what one of them costs in a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...profiles.errors import ProfileError
from ...profiles.profile import Profile, builtin_names, load_profile, load_profiles, profile_to_toml
from ...profiles.schedule import has_start_layer
from ..prediction.options import MOST_POSITIONS
from ..studies.positions import positions_lines
from .command import StrictCommand
from .parameters import AUDIO_SECONDS, PATH, profile_folders, refuse_given, require

if TYPE_CHECKING:
    from rich.table import Table

    from ...runtime.tables.tables import Section
    from ..cost import ProfileCost

GIGA = 1e9
OF_A_MODEL = "audio_seconds", "text_tokens"


@click.group(short_help="List profiles, and show what one does.")
def profiles() -> None:
    """List reduction profiles, and show what one does to a model."""


@profiles.command("list", cls=StrictCommand)
@profile_folders
@click.pass_context
def list_profiles(ctx: click.Context, /, folders: tuple[Path, ...]) -> None:
    """List the built-in profiles, and those of folders. Exits with 1 if a file there is none."""
    found, faults = list(load_profiles(builtin_names())), list[ProfileError]()
    for path in sorted(path for folder in folders for path in folder.glob("*.toml")):
        try:
            found.append(load_profile(str(path)))
        except ProfileError as error:
            faults.append(error)
    from ...runtime.tables.tables import console, show_table

    show_table(console(), _profiles_table(found))
    for fault in faults:
        click.echo(f"left out: {fault}", err=True)
    ctx.exit(1 if faults else 0)


@profiles.command(cls=StrictCommand)
@click.argument("name")
@profile_folders
@click.option(
    "--checkpoint", type=PATH, metavar="CHECKPOINT", help="Show rows, FLOPs and KV bytes in this model."
)
@click.option(
    "--audio-seconds",
    type=AUDIO_SECONDS,
    metavar="S",
    help="Length of the audio.  [default: the profile's reference]",
)
@click.option(
    "--text-tokens",
    type=click.IntRange(min=0, max=MOST_POSITIONS),
    metavar="N",
    help="Rows of the prompt that are text.  [default: the profile's reference]",
)
@click.pass_context
def show(
    ctx: click.Context,
    /,
    name: str,
    folders: tuple[Path, ...],
    checkpoint: Path | None,
    audio_seconds: float | None,
    text_tokens: int | None,
) -> None:
    """Show profile NAME (or a .toml file): its TOML, or its cost layer by layer in a model."""
    profile = load_profile(name, folders)
    if checkpoint is None:
        refuse_given(ctx, OF_A_MODEL, "of --checkpoint, which is not given")
        click.echo(profile_to_toml(profile), nl=False)
        for line in positions_lines(profile):
            click.echo(f"# {line}")
        return
    require("onnx")
    from ...runtime.tables.tables import console
    from ...runtime.tables.tables import show as show_all
    from ..cost import profile_cost

    cost = profile_cost(checkpoint, profile, audio_seconds, text_tokens)
    memory = (_memory_section(cost),) if cost.requests else ()
    show_all(console(), (_cost_section(cost), "", *_cost_lines(cost), *memory))


def _profiles_table(found: Sequence[Profile]) -> Table:
    from ...runtime.tables.tables import columns

    rows = columns("name", "method", "positions", "schedule", "from", "reduction", left=4)
    for profile in found:
        if not profile.traits.reduces:
            rows.add_row(profile.name, profile.method, "-", "-", "-", "none")
        else:
            start = str(profile.start_layer) if has_start_layer(profile.schedule) else "-"
            where = profile.schedule, start
            rows.add_row(profile.name, profile.method, profile.row_positions, *where, _target(profile))
    return rows


def _target(profile: Profile) -> str:
    if profile.flops_reduction is None:
        return f"ratio {profile.ratio}"
    reference = float(profile.reference_audio_seconds)
    return f"{float(100 * profile.flops_reduction):g} % FLOPs at {reference:g} s"


def _cost_section(cost: ProfileCost) -> Section:
    """One row a layer."""
    from ...runtime.tables.tables import Section, columns
    from ...runtime.tables.units import seconds, size

    rows = columns(
        "layer", "ratio", "attention rows", "MLP rows", "cached rows", "GFLOPs", "KV cache", left=0
    )
    for row in cost.layers:
        rows.add_row(
            str(row.layer),
            str(row.ratio),
            str(row.attention_rows),
            str(row.mlp_rows),
            str(row.cached_rows),
            f"{row.flops / GIGA:.3f}",
            size(row.kv_bytes),
        )
    audio = f"{seconds(cost.audio_seconds)} s of audio in {cost.span_rows} rows"
    return Section(f"{cost.resolved.name}: {audio}, {cost.text_rows} rows of text", rows)


def _memory_section(cost: ProfileCost) -> Section:
    """What requests take beside the loaded model."""
    from ...runtime.tables.tables import Section, columns
    from ...runtime.tables.units import size
    from ..cost import REQUEST_TOKENS

    rows = columns("audio", "beams", "KV cache", "peak of a request, at most", left=0)
    for request in cost.requests:
        memory = request.memory
        audio, beams = f"{request.audio_seconds} s", str(request.num_beams)
        rows.add_row(audio, beams, size(memory.kv_cache), size(memory.peak))
    return Section(
        f"memory in float32: {size(cost.weight_bytes)} of weights; {REQUEST_TOKENS} new tokens", rows
    )


def _cost_lines(cost: ProfileCost) -> Iterator[str]:
    """Positions and totals."""
    from ...runtime.tables.units import percent, seconds, size
    from ..model.fit import idle_notes

    yield from positions_lines(cost.resolved.profile)
    if cost.resolved.input_ratio:
        before = f"{cost.input_rows} of {cost.span_rows} audio rows enter the first layer"
        yield f"input     {before}: ratio {cost.resolved.input_ratio}"
    flops, full = cost.flops / GIGA, cost.full_flops / GIGA
    saved, smaller = 1 - cost.flops / cost.full_flops, 1 - cost.kv_bytes / cost.full_kv_bytes
    yield f"prefill   {flops:.2f} GFLOPs with the head, {full:.2f} without reduction: {percent(saved)} saved"
    kept, all_kept = size(cost.kv_bytes), size(cost.full_kv_bytes)
    yield f"KV cache  {kept}, {all_kept} without reduction: {percent(smaller)} saved"
    if cost.scoring_flops:
        scoring, share = cost.scoring_flops / GIGA, percent(cost.scoring_flops / cost.full_flops)
        yield f"scoring   {scoring:.2f} GFLOPs on top of a fused attention, {share} of the full prefill"
    yield from idle_notes((cost.resolved,))
    if not cost.resolved.has_static_lengths:
        yield "The lengths of this method depend on the audio: these are the fewest rows it can leave."
    if cost.longest_seconds is not None and cost.audio_seconds > cost.longest_seconds:
        yield f"The model hears {seconds(cost.longest_seconds)} s at once: it refuses longer audio."
    if cost.prompt_rows >= cost.max_positions:
        yield f"The model has {cost.max_positions} positions: it cannot run {cost.prompt_rows} rows."
