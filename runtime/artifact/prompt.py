"""The prompts of an artifact as data: what stands around the text of a request, and where its audio goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...profiles.errors import ArtifactError

AUDIO, PROMPT, SYSTEM = "{audio}", "{prompt}", "{system}"
"""The places of a template."""

_TEXT_PLACE = re.compile(f"{re.escape(PROMPT)}|{re.escape(SYSTEM)}")


@dataclass(frozen=True)
class AudioPlace:
    """How a text that is taken whole names the place of the audio.

    Without `end` it is the text `begin`. With it, all from `begin` to the next `end`, whatever stands between
    them. Neither belongs to the text before or after the audio.
    """

    begin: str
    end: str | None = None

    @property
    def example(self) -> str:
        """The place as messages and pages write it."""
        return self.begin + (self.end or "")


@dataclass(frozen=True)
class Prompt:
    """How text and audio become token ids.

    A template holds `{audio}` and `{prompt}` once. The texts on its two sides are tokenised each for itself,
    and what is put into it is never searched for places again.

    Raises:
        ArtifactError: a template with other places.
    """

    template: str  # of requests without a system text; a default one is part of it
    audio_place: AudioPlace | None  # None: no text is taken whole
    audio_token_ids: tuple[
        int, ...
    ] = ()  # the ids that stand for the audio, as repetition penalties see them
    system_template: str | None = None  # with `{system}`, too; None: the model has no place for such a text
    default_prompt: str | None = None  # the text of requests that have none
    first_ids: tuple[int, ...] = ()  # before all others
    first_id_after_audio: int | None = None  # takes the place of the first id after the audio
    refused_marks: tuple[str, ...] = ()  # of what this model could read and is not given: images, videos
    bare_template: str | None = None  # of requests whose text is empty, without `{prompt}`; None: `template`
    seconds_mark: str | None = None  # in templates and texts taken whole: how long the audio is, like 12.34
    adapter_template: str | None = None  # with `{prompt}`: its ids are the input of a graph of their own

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ArtifactError("; ".join(faults))

    @property
    def asks_by_itself(self) -> bool:
        """Whether a request without a text asks something all the same."""
        return self.default_prompt is not None or self.bare_template is not None


def filled(template: str, texts: Mapping[str, str]) -> str:
    """A template, or a part of one, with texts in the places that `texts` names."""
    return _TEXT_PLACE.sub(lambda place: texts[place[0]], template)


def _faults(prompt: Prompt) -> Iterator[str]:
    places = {
        "template": (prompt.template, (AUDIO, PROMPT)),
        "system_template": (prompt.system_template, (AUDIO, PROMPT, SYSTEM)),
        "bare_template": (prompt.bare_template, (AUDIO,)),
        "adapter_template": (prompt.adapter_template, (PROMPT,)),
    }
    for name, (template, needed) in places.items():
        for place in (AUDIO, PROMPT, SYSTEM) if template is not None else ():
            count, expected = (template or "").count(place), int(place in needed)
            if count != expected:
                yield f"prompt: {name} holds {place} {count} times, {expected} expected"
    written = prompt.audio_place
    for name in ("begin", "end"):
        if written is not None and getattr(written, name) == "":
            yield f"prompt: audio_place.{name} is empty"
    if prompt.seconds_mark == "":
        yield "prompt: seconds_mark is empty"
    if "" in prompt.refused_marks:
        yield "prompt: one of refused_marks is empty"
    if prompt.adapter_template is not None and prompt.audio_place is not None:
        yield "prompt: a text that is taken whole has no part for the adapter_template"
