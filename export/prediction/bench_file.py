"""A plan fitted to the result file of a benchmark, and how far it was off before and is after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from ...evaluation.results.files import ResultFile
from ...evaluation.results.plan import ComparedTime
from ...profiles.errors import RequestError
from ...profiles.flops import ResolvedProfile
from ...runtime.artifact.manifest import arithmetic
from ...runtime.benchmark.records import Benchmark, Case
from ...runtime.environment import environment
from .calibration import Measured, fitted
from .devices import CPU, Sourced
from .model import GPU_GRAPHS, PlannedModel
from .options import PlanOptions
from .roofline import Work, pass_ms
from .target import Target

CPU_PROVIDER = "CPUExecutionProvider"
Resolved = Mapping[str, ResolvedProfile]


@dataclass(frozen=True)
class _Pass:
    """A pass of a case that was timed."""

    case: str
    what: str
    work: Work
    milliseconds: float


def calibrated(
    targets: list[Target],
    model: PlannedModel,
    resolved: Resolved,
    options: PlanOptions,
    file: ResultFile[Benchmark],
) -> tuple[list[Target], tuple[ComparedTime, ...]]:
    """The devices, that of the file fitted to its times, and those times beside the predicted ones.

    Raises:
        RequestError: the file is of another model, of a device or a number of threads that is not planned
            for, or has no time of a profile that is.
    """
    _check_model(file, model, resolved)
    old = _device_of(file, targets, options)
    passes = [each for case in file.found.results for each in _passes(case, old, model, resolved, file)]
    if not passes:
        raise RequestError(
            f"{file.name}: it has no time of the profiles {', '.join(resolved)}; plan for its own"
        )
    efficiency = fitted([Measured(it.work, it.milliseconds) for it in passes], old.ceilings, old.efficiency)
    numbers = asdict(efficiency).items()
    new = replace(old, table={name: Sourced(value, f"fitted to {file.name}") for name, value in numbers})
    compared = tuple(_compared(it, old, new) for it in passes)
    return [new if each is old else each for each in targets], compared


def _compared(it: _Pass, old: Target, new: Target) -> ComparedTime:
    """A pass as it was timed, and as it is predicted before and after the fit."""
    before, after = (pass_ms(it.work, each.ceilings, each.efficiency) for each in (old, new))
    return ComparedTime(it.case, it.what, it.milliseconds, before, after)


def _passes(
    case: Case, device: Target, model: PlannedModel, resolved: Resolved, file: ResultFile[Benchmark]
) -> Iterator[_Pass]:
    """Prefill and step of a case."""
    if case.profile not in resolved:
        return
    request = model.request(resolved[case.profile], case.audio_seconds, case.beams)
    tokens = file.found.protocol.new_tokens
    for what, work in (("prefill", device.prefill(request)), ("step", device.step(request, tokens))):
        if (found := case.median(f"{what}_ms")) is not None:
            yield _Pass(case.label, what, work, found)


def _check_model(file: ResultFile[Benchmark], model: PlannedModel, resolved: Resolved) -> None:
    """Refuse times of a model that is not planned for: its family, and the ratios of its profiles, tell."""
    artifact = file.found.artifact
    ratios = artifact.get("ratios")
    known = ratios if isinstance(ratios, dict) else {}
    differ = [name for name, it in resolved.items() if name in known and known[name] != str(it.ratio)]
    if artifact.get("family") != model.spec.family or differ:
        raise RequestError(
            f"{file.name} is of another model than the checkpoint: family {artifact.get('family')!r}"
            f"{', other ratios of ' + ', '.join(differ) if differ else ''}; give times of an artifact that "
            "was built from it"
        )


def _device_of(file: ResultFile[Benchmark], targets: list[Target], options: PlanOptions) -> Target:
    """The device of the plan that the file is of."""
    ran, precision = file.found.artifact.get("device"), file.found.artifact.get("precision")
    if ran == CPU:
        raise RequestError(
            f"{file.name} was measured on {CPU}: graphs for {GPU_GRAPHS}, which no device of a plan runs; "
            "give times of a GPU, or of the graphs for CPUs"
        )
    fitting = [each for each in targets if (each.name == CPU) == (ran == CPU_PROVIDER)]
    if len(fitting) != 1:
        wanted = f"--device {CPU}" if ran == CPU_PROVIDER else "the one GPU that it is"
        raise RequestError(f"{file.name} was measured on {ran}: plan for {wanted}")
    (found,) = fitting
    planned = arithmetic(found.figures.precision, options.quantize)
    if planned not in str(precision).split(", "):
        raise RequestError(
            f"{file.name} is of {precision}, the plan for {planned}: give --precision and --quantize to fit"
        )
    threads, asked = file.found.environment.threads, environment(options.threads).threads
    if found.name == CPU and threads != asked:
        raise RequestError(
            f"{file.name} was measured with {threads} threads, the plan is for {asked}: "
            f"give --threads {threads}"
        )
    return found
