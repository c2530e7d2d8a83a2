"""What there is to say of a family: of the command `families`, of its page, and of refusals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Facts:
    """One family, in words."""

    name: str
    state: str  # what it was tried with
    token_rate: str  # rows of the decoder per second of audio
    limits: str  # positions, and the longest audio
    prompts: str
    notes: str


TITLES = {field.name: field.name.replace("_", " ") for field in fields(Facts) if field.name != "name"}
"""What is said -> how tables call it."""


def as_markdown(families: Mapping[str, Facts]) -> str:
    """The table of the page: a family a row, with each `model_type` of config.json that it has."""
    head = " | ".join(("family", "`model_type`", *TITLES.values()))
    kinds: dict[Facts, list[str]] = {}
    for kind, it in families.items():
        kinds.setdefault(it, []).append(f"`{kind}`")
    rows = (
        " | ".join(text.replace("|", r"\|") for text in (it.name, ", ".join(of_it), *values_of(it)))
        for it, of_it in kinds.items()
    )
    return "\n".join((f"| {head} |", "|---" * (2 + len(TITLES)) + "|", *(f"| {row} |" for row in rows)))


def values_of(facts: Facts) -> Iterator[str]:
    """In the order of `TITLES`."""
    return (getattr(facts, name) for name in TITLES)
