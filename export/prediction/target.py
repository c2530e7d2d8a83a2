"""A device as it holds a model: its ceilings, what is reached of them, and the times that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...evaluation.results.plan import DeviceFigures
from ...runtime.environment import cpu_model
from .devices import (
    CPU,
    CPU_EFFICIENCY,
    DEVICES,
    GPU_EFFICIENCY,
    EfficiencyTable,
    efficiency_of,
    precision_of,
)
from .model import CPU_GRAPHS, GPU_GRAPHS, PlannedModel
from .options import PlanOptions
from .roofline import Ceilings, Efficiency, Work, pass_ms
from .work import CPU_KERNELS, GPU_KERNELS, Kernels, Request, Sizes, prefill_work, step_work

AS_FP32 = "assumed: as measured in fp32"


@dataclass(frozen=True)
class Target:
    """One device of a plan."""

    figures: DeviceFigures
    ceilings: Ceilings
    kernels: Kernels
    sizes: Sizes
    table: EfficiencyTable

    @property
    def name(self) -> str:
        """As `--device` takes it."""
        return self.figures.name

    @property
    def efficiency(self) -> Efficiency:
        """The numbers of its table."""
        return efficiency_of(self.table)

    def prefill(self, request: Request) -> Work:
        """What a prefill does."""
        return prefill_work(self.sizes, request, self.kernels)

    def step(self, request: Request, new_tokens: int) -> Work:
        """What the mean step of an answer does."""
        return step_work(self.sizes, request, new_tokens / 2, self.kernels)

    def prefill_ms(self, request: Request) -> float:
        """Its time."""
        return pass_ms(self.prefill(request), self.ceilings, self.efficiency)

    def step_ms(self, request: Request, new_tokens: int) -> float:
        """Its time."""
        return pass_ms(self.step(request, new_tokens), self.ceilings, self.efficiency)

    def total_ms(self, request: Request, new_tokens: int) -> float:
        """Of an answer: the prefill gives its first token, steps the others."""
        return self.prefill_ms(request) + (new_tokens - 1) * self.step_ms(request, new_tokens)


def target(name: str, model: PlannedModel, options: PlanOptions) -> Target:
    """A device of the table, or this machine's CPU, which is measured."""
    graphs = CPU_GRAPHS if name == CPU else GPU_GRAPHS
    precision = precision_of(name, options.precision)
    sizes = model.sizes(graphs, precision, options.quantize, options.int4_block)
    return _cpu(sizes, options) if name == CPU else _gpu(name, sizes, options)


def _gpu(name: str, sizes: Sizes, options: PlanOptions) -> Target:
    device, precision = DEVICES[name], precision_of(name, options.precision)
    peak = device.flops_a_second[precision]
    figures = DeviceFigures(
        name=name,
        title=device.title,
        precision=precision,
        memory_bytes=device.memory_bytes,
        bytes_a_second=device.bytes_a_second,
        flops_a_second=peak,
        weight_bytes=sizes.loading_bytes,
        source=device.source,
    )
    return Target(figures, Ceilings(peak, peak, device.bytes_a_second), GPU_KERNELS, sizes, GPU_EFFICIENCY)


def _cpu(sizes: Sizes, options: PlanOptions) -> Target:
    from .cpu import measured_ceilings, memory_bytes

    ceilings = measured_ceilings(options.threads, options.quantize, options.int4_block)
    figures = DeviceFigures(
        name=CPU,
        title=cpu_model() or "this CPU",
        precision=precision_of(CPU, options.precision),
        memory_bytes=memory_bytes(),
        bytes_a_second=ceilings.bytes,
        flops_a_second=ceilings.linear_flops,
        weight_bytes=sizes.loading_bytes,
        source="measured here: products and reading of ONNX Runtime",
    )
    return Target(figures, ceilings, CPU_KERNELS, sizes, _cpu_table(options.quantize))


def _cpu_table(quantize: str | None) -> EfficiencyTable:
    """What was fitted to fp32, and is taken for other matrices as well."""
    if quantize is None:
        return CPU_EFFICIENCY
    return {name: replace(number, source=AS_FP32) for name, number in CPU_EFFICIENCY.items()}
