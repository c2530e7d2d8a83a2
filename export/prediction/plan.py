"""A plan: every device, profile, number of beams and length of audio, predicted from counts and ceilings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path

from ...evaluation.results.files import ResultFile
from ...evaluation.results.plan import (
    BreakEven,
    ComparedTime,
    EfficiencyFigure,
    PlanCase,
    PlanProtocol,
    PlanResult,
)
from ...profiles.flops import ResolvedProfile
from ...profiles.methods import FULL
from ...profiles.profile import load_profile
from ...runtime.benchmark.records import Benchmark
from ...runtime.environment import BUSY, Environment, environment
from ...runtime.tables.units import seconds as shown_seconds
from ...runtime.tables.units import size
from .bench_file import calibrated
from .break_even import lengths, pays_in_words
from .devices import CPU, MEMORY_SHARE, MEMORY_SHARE_SOURCE, UNITS, EfficiencyTable, Sourced
from .model import PlannedModel, planned_model
from .options import PlanOptions
from .published import Published
from .target import Target, target
from .work import Request, Sizes, held_kv_bytes

Resolved = Mapping[str, ResolvedProfile]


def plan(
    checkpoint: Path,
    options: PlanOptions,
    calibrate: ResultFile[Benchmark] | None = None,
    published: bool = False,
) -> PlanResult:
    """Predict every combination.

    Args:
        checkpoint: folder with config.json; weights are neither needed nor read.
        options: the matrix.
        calibrate: times of an artifact of this checkpoint, to which the device that ran it is fitted.
        published: predict the published table of latencies as well.

    Raises:
        CheckpointError: the settings are not supported.
        ProfileError: a profile does not fit the model.
        RequestError: the file is of another model, device or number of threads.
    """
    model = planned_model(checkpoint, options.text_rows, options.max_positions)
    resolved = {profile.name: model.resolve(profile) for profile in options.profiles}
    targets = [target(name, model, options) for name in options.devices]
    compared: tuple[ComparedTime, ...] = ()
    if calibrate is not None:
        targets, compared = calibrated(targets, model, with_full(model, resolved), options, calibrate)
    table, machine = Published() if published else None, environment(options.threads)
    return PlanResult(
        checkpoint=model.spec.identity(checkpoint),
        protocol=_protocol(options, calibrate),
        devices=tuple(each.figures for each in targets),
        efficiencies=tuple(figure for each in targets for figure in _efficiencies(each)),
        cases=tuple(_cases(targets, model, resolved, options)),
        break_even=tuple(_break_even(targets, model, with_full(model, resolved), options)),
        calibration=compared,
        published=tuple(table.times()) if table else (),
        published_efficiencies=tuple(_published_efficiencies(table)) if table else (),
        notes=tuple(_notes(model, resolved, options, targets, machine)),
        environment=machine,
    )


def with_full(model: PlannedModel, resolved: Resolved) -> Resolved:
    """The profiles, and the full model, which others are compared with."""
    return {FULL: model.resolve(load_profile(FULL)), **resolved}


def _cases(
    targets: list[Target], model: PlannedModel, resolved: Resolved, options: PlanOptions
) -> Iterator[PlanCase]:
    combinations = product(targets, options.audio_seconds, options.beams, resolved.values())
    for each, seconds, beams, profile in combinations:
        yield _case(each, model, model.request(profile, seconds, beams), seconds, options)


def _case(
    each: Target, model: PlannedModel, request: Request, seconds: float, options: PlanOptions
) -> PlanCase:
    case = PlanCase(each.name, request.resolved.name, request.beams, seconds)
    needed = request.prompt_rows + options.new_tokens
    if request.span_rows <= 0:
        return replace(case, skipped=f"{seconds:g} s of audio give no row")
    hears = model.spec.front_end.longest_seconds
    if hears is not None and seconds > hears:
        return replace(case, skipped=f"the model hears {shown_seconds(hears)} s at once")
    if needed > model.positions:
        return replace(
            case, skipped=f"{needed} rows with the answer, {model.positions} positions (--max-positions)"
        )
    step = each.step_ms(request, options.new_tokens)
    held = held_kv_bytes(each.sizes, request, options.new_tokens, each.kernels)
    return replace(
        case,
        prompt_rows=request.prompt_rows,
        flops=each.prefill(request).flops,
        prefill_ms=each.prefill_ms(request),
        step_ms=step,
        decode_ms=step * (options.new_tokens - 1),
        kv_bytes=held,
        largest_batch=largest_batch(each.figures.memory_bytes, each.sizes, held),
    )


def largest_batch(memory: float, sizes: Sizes, kv: float) -> int:
    """Requests whose keys and values fit beside the weights; 0 where these cannot even be loaded."""
    room = MEMORY_SHARE * memory
    return 0 if sizes.loading_bytes > room else int((room - sizes.held_bytes) // kv)


def _break_even(
    targets: list[Target], model: PlannedModel, resolved: Resolved, options: PlanOptions
) -> Iterator[BreakEven]:
    longest = model.longest_seconds(options.new_tokens)
    if longest <= 0:
        return
    grid, reduced = lengths(longest), [it for name, it in resolved.items() if name != FULL]
    for each, profile, beams in product(targets, reduced, options.beams):
        pair = resolved[FULL], profile
        speed_up = partial(_speed_up, each, model, pair, beams, options.new_tokens)
        speedups = tuple(map(speed_up, grid))
        yield BreakEven(each.name, profile.name, beams, grid, speedups, pays_in_words(speed_up, grid))


def _speed_up(
    each: Target,
    model: PlannedModel,
    pair: tuple[ResolvedProfile, ResolvedProfile],
    beams: int,
    new_tokens: int,
    seconds: float,
) -> float:
    """Time of the first profile / time of the second."""
    first, second = (each.total_ms(model.request(resolved, seconds, beams), new_tokens) for resolved in pair)
    return first / second


def _efficiencies(each: Target) -> Iterator[EfficiencyFigure]:
    yield from _figures(each.name, each.table)
    share = MEMORY_SHARE, "of the memory", MEMORY_SHARE_SOURCE
    yield EfficiencyFigure(each.name, "memory_share", *share)


def _figures(device: str, table: EfficiencyTable) -> Iterator[EfficiencyFigure]:
    for name, number in table.items():
        yield EfficiencyFigure(device, name, number.value, UNITS[name], number.source)


def _published_efficiencies(table: Published) -> Iterator[EfficiencyFigure]:
    source = "fitted to the published times of the full model"
    numbers = {name: Sourced(value, source) for name, value in asdict(table.efficiency()).items()}
    yield from _figures(table.device, numbers)


def _protocol(options: PlanOptions, calibrate: ResultFile[Benchmark] | None) -> PlanProtocol:
    return PlanProtocol(
        profiles=tuple(profile.name for profile in options.profiles),
        beams=options.beams,
        audio_seconds=options.audio_seconds,
        text_rows=options.text_rows,
        new_tokens=options.new_tokens,
        quantize=options.quantize,
        int4_block=options.int4_block if options.quantize == "int4" else None,
        calibrated_by=calibrate.name if calibrate else None,
    )


def _notes(
    model: PlannedModel,
    resolved: Resolved,
    options: PlanOptions,
    targets: list[Target],
    machine: Environment,
) -> Iterator[str]:
    if not model.has_weights:
        yield "The checkpoint folder has no weights: none are needed for a plan."
    if model.positions > model.spec.decoder.max_positions:
        yield f"Positions beyond {model.spec.decoder.max_positions} are extrapolated by the model."
    if varying := [name for name, profile in resolved.items() if not profile.has_static_lengths]:
        yield (
            f"What {' and '.join(varying)} leaves depends on the audio: times are of the fewest rows that "
            "can be left, KV and batch of the most."
        )
    gpus = dict.fromkeys(each.figures.precision for each in targets if each.name != CPU)
    if options.quantize and gpus:
        yield (
            f"On a GPU {options.quantize} matrices are widened as they are read: fewer bytes, products at "
            f"the rate of {' or '.join(gpus)} (assumed)."
        )
    for each in targets:
        if each.name == CPU and each.sizes.loading_bytes > each.sizes.held_bytes:
            yield (
                f"On the CPU prefill and step each pack their matrices: {size(each.sizes.loading_bytes)} "
                f"while they are loaded, {size(each.sizes.held_bytes)} then."
            )
    if CPU in options.devices and (load := (machine.load_average or (0.0,))[0]) > BUSY:
        yield f"The machine was busy (load {load:.1f}): the ceilings of its CPU may be higher than measured."
    yield "The audio encoder is not part of the times."
