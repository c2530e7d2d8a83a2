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
    """The table of the page: a family a row, by the `model_type` of config.json."""
    head = " | ".join(("family", "`model_type`", *TITLES.values()))
    rows = (
        " | ".join(text.replace("|", r"\|") for text in (it.name, f"`{kind}`", *values_of(it)))
        for kind, it in families.items()
    )
    return "\n".join((f"| {head} |", "|---" * (2 + len(TITLES)) + "|", *(f"| {row} |" for row in rows)))


def values_of(facts: Facts) -> Iterator[str]:
    """In the order of `TITLES`."""
    return (getattr(facts, name) for name in TITLES)
