"""Token counts: how many audio rows every decoder layer sees, in exact integers.

A layer attends over (and caches) the rows that enter it; its reduction happens after the attention, so its
MLP and the next layer see what is left. A reduction at the input happens before the first layer, which then
sees what is left. A method that works on the caches alone leaves all rows to every
layer, and shortens what a layer caches. Graphs and plugins follow the same rule; tests hold them equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .errors import InfeasibleError, ProfileError

INPUT, INPUT_AND_SINGLE = "input", "input_and_single"
IN_LAYERS = ("single", "constant", "decay")
AT_INPUT = (INPUT, INPUT_AND_SINGLE)
SCHEDULES = (*IN_LAYERS, *AT_INPUT)
BEFORE_LAYERS = -1
"""The place of a reduction at the input, where others have the index of their layer."""


@dataclass(frozen=True)
class TokenCounts:
    """Rows of the audio span in every layer, text rows not included."""

    attention: tuple[int, ...]  # rows that enter layer l
    mlp: tuple[int, ...]  # rows that layer l hands on after its own reduction
    cached: tuple[int, ...]  # rows that the KV cache of layer l keeps, in each KV head


def removed(rows: int, ratio: Fraction) -> int:
    """Rows that one reduction takes from a span of `rows`: floor(rows * ratio)."""
    return rows * ratio.numerator // ratio.denominator


def surely_removed(rows: int, ratio: Fraction) -> int:
    """The fewest rows that a reduction takes in pairs: a run of n edges is n / 2 of them at least."""
    return -(-removed(rows, ratio) // 2)


def token_counts(
    span_rows: int,
    ratios: Sequence[Fraction],
    is_of_caches: bool = False,
    input_ratio: Fraction = Fraction(0),
    taken: Callable[[int, Fraction], int] = removed,
) -> TokenCounts:
    """Follow a span of `span_rows` audio rows through layers that remove `ratios`, one ratio per layer.

    Before the first of them `input_ratio` is removed.

    A ratio below 1 always leaves a row. For the method `a_tome`, whose lengths depend on the data, these are
    the fewest rows that can be left, and the most with `surely_removed` as what is `taken`. With
    `is_of_caches` a ratio is the share of the layer's own cache.
    """
    if is_of_caches:
        whole = (span_rows,) * len(ratios)
        return TokenCounts(whole, whole, tuple(span_rows - removed(span_rows, ratio) for ratio in ratios))
    attention, mlp = [], []
    rows = span_rows - taken(span_rows, input_ratio)
    for ratio in ratios:
        attention.append(rows)
        rows -= taken(rows, ratio)
        mlp.append(rows)
    return TokenCounts(tuple(attention), tuple(mlp), tuple(attention))


def layer_ratios(schedule: str, start_layer: int, ratio: Fraction, num_layers: int) -> tuple[Fraction, ...]:
    """The share of the audio rows before it that each of `num_layers` layers removes, exactly.

    `single` reduces at `start_layer` only, `constant` from there on, and `decay` falls linearly from `ratio`
    at `start_layer` to 0 at the last layer. `input_and_single` reduces as `single` does, after the input, and
    `input` in no layer: for what they remove before the first layer see `input_ratio`.

    Raises:
        InfeasibleError: a decay from the last layer.
        ProfileError: an unknown schedule, a ratio outside [0, 1), or a start layer that the model lacks.
    """
    _check(schedule, start_layer, ratio, num_layers)
    share = _SHARES[schedule]
    reducing = (ratio * share(layer, start_layer, num_layers) for layer in range(start_layer, num_layers))
    return (Fraction(0),) * start_layer + tuple(reducing)


def input_ratio(schedule: str, ratio: Fraction) -> Fraction:
    """The share of the audio rows that is removed before the first layer."""
    return ratio if schedule in AT_INPUT else Fraction(0)


def has_start_layer(schedule: str) -> bool:
    """Whether it reduces in a layer, so that one can be chosen."""
    return schedule != INPUT


def _single(layer: int, start_layer: int, _: int) -> Fraction:
    return Fraction(int(layer == start_layer))


def _constant(_layer: int, _start_layer: int, _: int) -> Fraction:
    return Fraction(1)


def _decay(layer: int, start_layer: int, num_layers: int) -> Fraction:
    return Fraction(num_layers - 1 - layer, num_layers - 1 - start_layer)


def _nowhere(_layer: int, _start_layer: int, _: int) -> Fraction:
    return Fraction(0)


_SHARES = {
    "single": _single,
    "constant": _constant,
    "decay": _decay,
    INPUT: _nowhere,
    INPUT_AND_SINGLE: _single,
}
"""The part of the ratio that a layer from `start_layer` on removes."""


def _check(schedule: str, start_layer: int, ratio: Fraction, num_layers: int) -> None:
    if schedule not in SCHEDULES:
        raise ProfileError(f"schedule {schedule!r} is unknown: choose one of {', '.join(SCHEDULES)}")
    if not 0 <= ratio < 1:
        raise ProfileError(f"ratio {ratio} is outside [0, 1): 1/2 removes half of the audio rows")
    last = num_layers - 1
    if not 0 <= start_layer <= last:
        raise ProfileError(f"start_layer {start_layer} is out of range: this model has layers 0 to {last}")
    if schedule == "decay" and start_layer == last:
        raise InfeasibleError(
            f"schedule 'decay' cannot start at the last layer, {last}: its ratio falls to 0 there, "
            "a slope over no layers (division by zero); start earlier"
        )
