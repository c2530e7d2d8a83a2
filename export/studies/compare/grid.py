"""The rows and columns of a comparison, as profiles of one cost a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from ....evaluation.results.comparison import called
from ....profiles.errors import InfeasibleError
from ....profiles.keys import COMPACT, KEPT
from ....profiles.methods import FULL, METHODS, VARIANTS, Method
from ....profiles.profile import Profile
from ....profiles.schedule import has_start_layer
from ....runtime.tables.units import in_percent
from ...model.fit import resolve_for, row_weights_fault
from ...model.spec import SpeechModelSpec
from ..reach import most_removed
from ..reference_request import ReferenceRequest
from ..trials import FULL_PROFILE
from .options import NONE, CompareOptions

BUDGET_METHOD, BUDGET_SCHEDULE = "weighted_merge", "constant"
"""The caches of this row are the budget of the methods that shorten caches alone."""


@dataclass(frozen=True)
class Cell:
    """A method at one level."""

    level: Fraction  # the share of the prefill FLOPs that its column removes
    profiles: tuple[Profile, ...] = ()  # one, or one a seed; none where there are none
    most: Fraction | None = None  # that can be removed, where this is too little
    why: str | None = None  # there are none, where the model cannot have the method
    unreachable: str | None = None  # why the schedule reaches no level, where it does not

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of a random method."""
        return tuple(profile.seed for profile in self.profiles if profile.traits.is_random)


FULL_CELL = Cell(Fraction(0), (FULL_PROFILE,))


@dataclass(frozen=True)
class Row:
    """A method under a schedule, or the full model, with weights of one format."""

    name: str  # one of `VARIANTS`, or full
    schedule: str  # of the full model empty
    cells: tuple[Cell, ...]  # one a level
    quantized: str | None = None  # what the weights are in; None: float32
    positions: str = ""  # of the rows that are left; of methods of caches and the full model empty
    names_positions: bool = False  # whether other rows differ in them alone

    @property
    def method(self) -> Method:
        """What all cells do."""
        return METHODS[FULL] if self.is_full else VARIANTS[self.name]

    @property
    def is_full(self) -> bool:
        """Whether nothing is reduced."""
        return self.name == FULL

    @property
    def label(self) -> str:
        """How people call it."""
        positions = self.positions if self.names_positions else ""
        return called(self.name, positions, self.schedule, self.quantized)


def comparison_grid(
    model: SpeechModelSpec, options: CompareOptions, reference: ReferenceRequest
) -> tuple[Row, ...]:
    """All rows that are asked for; those of one method follow each other.

    Raises:
        ProfileError: a start layer that the model lacks.
    """
    grid = _Grid(model, options, reference)
    several = len(options.positions) > 1
    return tuple(
        Row(
            name,
            schedule,
            tuple(grid.cell(name, schedule, level, positions) for level in options.levels),
            positions=positions,
            names_positions=several,
        )
        for name in options.methods
        if name != FULL
        for schedule in VARIANTS[name].schedules
        if schedule in options.schedules
        for positions in (("",) if VARIANTS[name].is_of_caches else options.positions)
    )


def compact_twin(row: Row, rows: Iterable[Row]) -> Row | None:
    """The row that differs from one of kept positions in these alone, if it is there."""
    if row.positions != KEPT:
        return None
    twin = replace(row, positions=COMPACT, cells=())
    return next((other for other in rows if replace(other, cells=()) == twin), None)


def in_formats(rows: tuple[Row, ...], quantize: tuple[str, ...]) -> Iterator[Row]:
    """The rows in each format, behind the full model in that format, which for the first one is no row."""
    for i, name in enumerate(quantize):
        quantized = None if name == NONE else name
        if i:
            yield Row(FULL, "", (FULL_CELL,), quantized)
        yield from (replace(row, quantized=quantized) for row in rows)


@dataclass(frozen=True)
class _Grid:
    """What all cells share."""

    model: SpeechModelSpec
    options: CompareOptions
    reference: ReferenceRequest

    def cell(self, name: str, schedule: str, level: Fraction, positions: str) -> Cell:
        """The profiles that meet a level, or the most that can be met."""
        if VARIANTS[name].weighs_by_encoder and (why := row_weights_fault(self.model)):
            return Cell(level, why=why)
        dims = self.model.decoder.dims
        try:
            most = most_removed(dims, schedule, self.options.start_layer, self.reference)
        except InfeasibleError as error:
            return Cell(level, unreachable=str(error))
        if most < level:
            return Cell(level, most=most)
        profile = self._profile(name, schedule, level, positions)
        if not VARIANTS[name].is_random:
            return Cell(level, (profile,))
        seeds = range(self.options.seeds)
        return Cell(level, tuple(replace(profile, name=f"{profile.name}-seed{i}", seed=i) for i in seeds))

    def _profile(self, name: str, schedule: str, level: Fraction, positions: str) -> Profile:
        method = VARIANTS[name]
        own: dict[str, Any] = {**method.settings}
        if method.is_of_caches:
            own |= {"ratio": self._cache_ratio(level)}
        else:
            own |= {"positions": positions, **self._target(level)}
        shown = f"-{positions}" if len(self.options.positions) > 1 and positions else ""
        name = f"{name}-{schedule}-{in_percent(level)}{shown}"
        start = self.options.start_layer if has_start_layer(schedule) else 0
        return Profile(name, method.name, schedule, start, **own)

    def _target(self, level: Fraction) -> dict[str, Any]:
        return {
            "flops_reduction": level,
            "reference_audio_seconds": self.reference.audio_seconds,
            "reference_text_tokens": self.reference.text_rows,
        }

    def _cache_ratio(self, level: Fraction) -> Fraction:
        """The smallest ratio at which caches keep no more rows than those of `BUDGET_METHOD` do."""
        budget = resolve_for(self._profile(BUDGET_METHOD, BUDGET_SCHEDULE, level, COMPACT), self.model)
        rows, layers = self.reference.audio_tokens, self.model.decoder.dims.num_layers
        surplus = layers * rows - sum(budget.token_counts(rows).cached)
        return Fraction(ceil(Fraction(surplus, layers - self.options.start_layer)), rows)
