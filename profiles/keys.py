"""The keys of a profile: how each one stands in TOML, what it must be, and which go together."""

import json
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeGuard

from .methods import METHODS, Method, Sums
from .schedule import AT_INPUT, SCHEDULES, has_start_layer

COMPACT, KEPT = POSITIONS = ("compact", "kept")

MOST_SEGMENTS = 100
MAX_DECIMALS = 9
MAX_DENOMINATOR = 1_000_000_000  # engines multiply rows and numerators in 64 bits, `decay` included
NAME_RULE = "use letters, digits, dot, dash and underscore, at most 100, and begin with a letter or digit"
MAX_EXPONENT = 30  # of a decimal in TOML; beyond it an exact fraction would fill the memory


@dataclass(frozen=True)
class Key:
    """How one field of a profile stands in TOML, and what it must be."""

    name: str
    read: Callable[[object], Any]  # the value of the field, or None for a wrong type
    show: Callable[[Any], str]
    accepts: Callable[[Any], bool]
    rule: str


def exact_number(text: str) -> Fraction | Decimal:
    """An exact fraction of a TOML float, or a decimal where it is no number or has a senseless exponent."""
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent that no decimal has
        return Decimal("NaN")
    exponent = number.as_tuple().exponent
    sensible = isinstance(exponent, int) and exponent >= -MAX_EXPONENT and number.adjusted() <= MAX_EXPONENT
    return Fraction(number) if sensible else number


def read_table(table: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """Field -> value of every known key (None where its type is wrong), and the faults of the reading."""
    field_of = {key.name: field for field, key in KEYS.items()}
    known = {field_of[name]: value for name, value in table.items() if name in field_of}
    given = {field: KEYS[field].read(value) for field, value in known.items()}
    faults = []
    if unknown := [_brief(name) for name in table if name not in field_of]:
        several = "s" * (len(unknown) > 1)
        faults = [f"unknown key{several} {', '.join(unknown)}: known keys are {', '.join(field_of)}"]
    faults += [
        f"{KEYS[field].name} = {_brief(value)} {KEYS[field].rule}"
        for field, value in known.items()
        if given[field] is None
    ]
    return given, faults


def faults_of(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the fields that were `given`; a None is present, but already known to be faulty."""
    yield from name_fault(name)
    for field, value in given.items():
        if value is not None and not KEYS[field].accepts(value):
            yield f"{KEYS[field].name} = {KEYS[field].show(value)} {KEYS[field].rule}"
    if "method" not in given:
        yield f"method is missing: choose one of {', '.join(METHODS)}"
    elif given["method"] in METHODS:
        yield from _method_faults(given["method"], given)
    if "flops_reduction" not in given:
        yield from _misplaced(given, _TARGET_FIELDS, "without flops_reduction_percent")


def name_fault(name: str) -> Iterator[str]:
    """A fault for a name that no profile can have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        yield f"the name becomes a file name: {NAME_RULE}"


def _method_faults(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    place, method = f"to method {name!r}", METHODS[name]
    if not method.reduces:
        yield from _misplaced(given, _REDUCTION_FIELDS, place)
    elif method.is_of_caches:
        yield from _cache_faults(method, given)
    elif ("ratio" in given) == ("flops_reduction" in given):
        found = "both are" if "ratio" in given else "none is"
        yield f"exactly one of ratio and flops_reduction_percent is needed, {found} given"
    if method.weighs_by_encoder and given.get("include_audio_bos"):
        yield (
            f"include_audio_bos does not apply {place}: it weighs rows by the attention in the encoder, "
            "which knows no row before the audio; remove it"
        )
    yield from _schedule_faults(method, given)
    yield from _misplaced(given, (field for field in _OWN_FIELDS if field not in method.own_keys), place)


def _cache_faults(method: Method, given: Mapping[str, Any]) -> Iterator[str]:
    """What a method that leaves the rows of the prefill alone cannot be asked for."""
    name = method.name
    if "flops_reduction" in given:
        yield (
            f"flops_reduction_percent does not apply to method {name!r}: "
            f"{name} saves KV memory and decode steps, not prefill FLOPs; give ratio"
        )
    elif "ratio" not in given:
        yield f"ratio is missing: the share of the audio rows that {name!r} removes from each cache"
    if "positions" in given:
        yield f"positions does not apply to method {name!r}, whose rows always keep theirs: remove it"


def _schedule_faults(method: Method, given: Mapping[str, Any]) -> Iterator[str]:
    schedule = given.get("schedule", SCHEDULES[0])
    if schedule not in SCHEDULES:  # which is a fault of its own
        return
    if "start_layer" in given and not has_start_layer(schedule):
        yield f"start_layer does not apply to schedule {schedule!r}, which is before all layers: remove it"
    if schedule in method.schedules:
        return
    needed = " or ".join(map(json.dumps, method.schedules))
    why = (
        ": from start_layer on, each layer keeps the same share of its own cache, and no layer hands fewer "
        "rows to the next"
    )
    if not method.is_of_caches:
        asks = schedule in AT_INPUT and method.sums is not Sums.NONE
        why = ": it asks for attention, and there is none before the first layer" if asks else ""
    yield f"method {method.name!r} needs schedule = {needed}{why}"


def _misplaced(given: Mapping[str, Any], fields: Iterable[str], place: str) -> Iterator[str]:
    return (f"{KEYS[field].name} does not apply {place}: remove it" for field in fields if field in given)


def _read_fraction(value: object) -> Fraction | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}/0*[1-9][0-9]{0,17}", value):
        return Fraction(value)
    return Fraction(value) if isinstance(value, Fraction) or _is_whole(value) else None


def _read_percent(value: object) -> Fraction | None:
    number = _read_fraction(value)
    return None if number is None else number / 100


def _is_whole(value: object) -> TypeGuard[int]:
    return type(value) is int and abs(value) < 2**63


def _show_fraction(value: Fraction) -> str:
    """A TOML number where it has few decimals, otherwise a string such as "1/3"."""
    for decimals in range(MAX_DECIMALS + 1):
        scaled = abs(value) * 10**decimals
        if scaled.denominator == 1:
            digits = str(scaled.numerator).zfill(decimals + 1)
            split = len(digits) - decimals
            return "-" * (value < 0) + digits[:split] + "." * (decimals > 0) + digits[split:]
    return f'"{value.numerator}/{value.denominator}"'


def _brief(value: object) -> str:
    """A short form of any TOML value, for messages."""
    if type(value) is int and not _is_whole(value):
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, Fraction):
        return _show_fraction(value)
    return f"{value:.6g}" if isinstance(value, Decimal) else reprlib.repr(value)


def _choice(name: str, choices: Collection[str]) -> Key:
    return Key(
        name,
        lambda value: value if isinstance(value, str) and len(value) < 100 else None,
        json.dumps,  # a JSON string is a TOML string
        lambda value: value in choices,
        f"must be one of {', '.join(choices)}",
    )


def _whole(name: str, rule: str) -> Key:
    return Key(
        name,
        lambda value: value if _is_whole(value) else None,
        str,
        lambda value: 0 <= value < 2**31,
        rule,
    )


def _flag(name: str) -> Key:
    return Key(
        name,
        lambda value: value if isinstance(value, bool) else None,
        lambda value: str(value).lower(),
        lambda _: True,
        "must be true or false",
    )


def _few_decimals(value: Fraction) -> bool:
    return value.denominator <= MAX_DENOMINATOR


KEYS = {
    "method": _choice("method", METHODS),
    "schedule": _choice("schedule", SCHEDULES),
    "start_layer": _whole("start_layer", "must be a whole number from 0 to 2147483647: layers count from 0"),
    "ratio": Key(
        "ratio",
        _read_fraction,
        _show_fraction,
        lambda value: 0 <= value < 1 and _few_decimals(value),
        'must lie in [0, 1): a number of at most 9 decimals, or a fraction such as "1/3", '
        "whose denominator is at most 1000000000",
    ),
    "flops_reduction": Key(
        "flops_reduction_percent",
        _read_percent,
        lambda value: _show_fraction(100 * value),
        lambda value: 0 < value < 1 and _few_decimals(100 * value),
        "must lie between 0 and 100, both excluded: a number of at most 9 decimals",
    ),
    "reference_audio_seconds": Key(
        "reference_audio_seconds",
        _read_fraction,
        _show_fraction,
        lambda value: 0 < value <= 10**6 and _few_decimals(value),
        "must lie above 0, at most 1000000: a number of at most 9 decimals",
    ),
    "reference_text_tokens": _whole("reference_text_tokens", "must be a whole number from 0 to 2147483647"),
    "include_audio_bos": _flag("include_audio_bos"),
    "positions": _choice("positions", POSITIONS),
    **{
        method.score_key: _choice(method.score_key, [score.value for score in method.scores])
        for method in METHODS.values()
        if method.score_key
    },
    "segments": Key(
        "segments",
        lambda value: value if _is_whole(value) else None,
        str,
        lambda value: 1 <= value <= MOST_SEGMENTS,
        f"must be a whole number from 1 to {MOST_SEGMENTS}",
    ),
    "seed": _whole("seed", "must be a whole number from 0 to 2147483647"),
}
_REDUCTION_FIELDS = ("schedule", "start_layer", "ratio", "flops_reduction", "positions")
_TARGET_FIELDS = ("reference_audio_seconds", "reference_text_tokens")
_OWN_FIELDS = tuple(field for field in KEYS if any(field in row.own_keys for row in METHODS.values()))
"""Of single methods."""
