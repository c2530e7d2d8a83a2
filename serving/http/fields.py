"""The fields of a request, read one by one: what is not known, or not honoured, is refused by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import is_unicode, shown
from ...runtime.choice.target import AUTO, Auto
from ...runtime.decoding.options import SearchOptions
from ..models import Models
from .errors import ApiError, api_error, invalid, refused

SEARCH = ("num_beams", "length_penalty", "max_new_tokens")
BUDGETS = ("latency_budget", "accuracy_budget")  # by which a profile is chosen
MOST_DIGITS = 40  # of a number in a form
_NUMBER = re.compile(r"[-+0-9.eE]+")  # Python reads more, such as 1_0 and digits of other scripts
ONLY_ZERO = (
    "the answer is the most probable one that the search finds, and nothing is drawn; give 0 or leave it out"
)


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse fields that nobody knows.

    Raises:
        ApiError: with the first of them.
    """
    for name in given:
        if name not in known:
            text = f"{shown(name)}: this field is not known here; known are {', '.join(sorted(known))}"
            raise ApiError(400, text, param=name[:100], code="unknown_parameter")


def profile_of(models: Models, model: object) -> str:
    """What the field `model` asks for.

    Raises:
        ApiError: 400 where there is none, 404 for one that is not ours.
    """
    if model is None:
        raise invalid("model", f"it is missing; give {models.ids[0]}")
    if not isinstance(model, str):
        raise invalid("model", f"{shown(model)} is no text; give {models.ids[0]}")
    if (asked := models.asked_profile(model)) is None:
        raise no_model(models, model)
    return asked


def no_model(models: Models, model: str) -> ApiError:
    """For one that is not ours."""
    known = ", ".join((models.name, *models.ids))
    text = f"model {shown(model)} does not exist; this server has {known}"
    return ApiError(404, text, param="model", code="model_not_found")


def auto_of(models: Models, asked: str, given: Mapping[str, Any]) -> Auto | None:
    """What a profile is chosen for: the budget of the request, or that of the server; None: it is named.

    Raises:
        ApiError: no budget, or one that is none; one beside a profile that is named; no figures to choose by.
    """
    values = {name: value for name in BUDGETS if (value := number_of(name, given.get(name))) is not None}
    if asked != AUTO:
        if values:
            raise refused(next(iter(values)), f"it chooses a profile, of the model {models.name}:{AUTO}")
        return None
    try:
        models.check_figures()
    except RequestError as error:
        raise ApiError(400, str(error), param="model", code="invalid_value") from None
    if not values and models.auto is not None:
        return models.auto
    try:
        return Auto(**values)
    except RequestError as error:
        raise ApiError(400, str(error), param=next(iter(values), BUDGETS[0]), code="invalid_value") from None


def text_of(name: str, value: object) -> str | None:
    """A text, or None where there is none.

    Raises:
        ApiError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not is_unicode(value):
        raise invalid(name, f"{shown(value)} is no text")
    return value


def flag_of(name: str, value: object) -> bool:
    """True or false, as JSON or a form has it; false where there is none.

    Raises:
        ApiError: it is something else.
    """
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if found is None and value is None:
        return False
    if not isinstance(found, bool):
        raise invalid(name, f"{shown(value)}: give true or false")
    return found


def number_of(name: str, value: object) -> int | float | None:
    """A number, as JSON or a form has it: a whole one where it is written as one.

    Raises:
        ApiError: it is something else.
    """
    if value is None:
        return None
    found = _number(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float) or not _is_finite(found):
        raise invalid(name, f"{shown(value)} is no number")
    return found


def refuse_temperature(value: object) -> None:
    """Refuse to draw; ApiError."""
    if number_of("temperature", value):
        raise refused("temperature", ONLY_ZERO)


def search_of(given: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> SearchOptions:
    """The search that a request asks for.

    Args:
        given: its fields.
        aliases: other names of ours.

    Raises:
        ApiError: a value out of range.
    """
    names = {**{name: name for name in SEARCH}, **(aliases or {})}
    present = [name for name in names if given.get(name) is not None]
    values: dict[str, Any] = {}
    for name in present:
        value = number_of(name, given[name])
        if values.setdefault(names[name], value) != value:
            raise invalid(name, f"{value} contradicts another field that says the same; give one of them")
    try:
        return SearchOptions(**values)
    except RequestError as error:
        fault = api_error(error)
        fault.param = next((name for name in present if names[name] == fault.param), fault.param)
        raise fault from None


def _number(text: str) -> int | float | None:
    if len(text) > MOST_DIGITS or not _NUMBER.fullmatch(text):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
