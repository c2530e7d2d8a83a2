"""The search that a request asks for: a record or its fields, over what the artifact has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import shown
from ..artifact.manifest import Manifest
from ..decoding.options import ResolvedSearch, SearchOptions


def resolved_search(
    manifest: Manifest,
    search: SearchOptions | None,
    options: Mapping[str, Any],
    method: Callable[..., object] | None = None,
) -> ResolvedSearch:
    """A record, or one of the fields by name; what is left out is the artifact's.

    Args:
        manifest: of the artifact.
        search: the record.
        options: the fields, and whatever else a caller wrote.
        method: what was called; its other keywords are known, too.

    Raises:
        RequestError: a record beside fields, unknown fields, values or tokens out of range.
    """
    if search is not None and options:
        raise RequestError(
            f"search and {', '.join(options)}: give a record of SearchOptions or its fields, not both"
        )
    known = SearchOptions.__dataclass_fields__
    if unknown := [name for name in options if name not in known]:
        names = ", ".join((*known, *(_keywords(method) if method else ())))
        raise RequestError(f"option {', '.join(unknown)} is unknown; known: {names}")
    if search is not None and not isinstance(search, SearchOptions):
        raise RequestError(f"search is {shown(search)}: give a record of SearchOptions")
    own = replace(manifest.generation, eos_token_ids=manifest.decoder.eos_token_ids)
    asked = search or SearchOptions(**options)
    asked.check_vocabulary(manifest.decoder.dims.vocab_size)
    return asked.resolved(own)


def _keywords(method: Callable[..., object]) -> list[str]:
    parameters = signature(method).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY]
