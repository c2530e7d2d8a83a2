"""The prompt of a request: from what the caller gave to the ids around the audio."""

from __future__ import annotations

from ...profiles.errors import RequestError
from ...profiles.faults import shown, text_fault
from ..artifact.artifact import NO_TOKENIZER
from ..artifact.manifest import Manifest
from ..limits import check_characters
from ..prompt import PromptIds, RawPrompt
from .asked import AnyPrompt
from .loaded import LoadedModel


def prompt_ids(model: LoadedModel, prompt: AnyPrompt, system: str | None) -> PromptIds:
    """Ids as they are, or those of a text.

    Raises:
        RequestError: no text, a system beside ids, a text without a tokenizer, or one that does not fit the
            template of the model.
    """
    _check_texts(prompt, system)
    if isinstance(prompt, PromptIds):
        if system is not None:
            raise RequestError(f"system {shown(system)}: token ids are taken as they are; leave it out")
        return prompt
    if model.codec is None:
        raise RequestError(f"{model.place}: {NO_TOKENIZER}, or give the prompt as PromptIds in Python")
    for text in (prompt.text if isinstance(prompt, RawPrompt) else prompt, system):
        check_characters(model.manifest, text or "")
    return model.codec.encode(prompt, system)


def history(manifest: Manifest, ids: PromptIds) -> tuple[int, ...]:
    """The prompt as penalties and bans see it, with the ids that stand for the audio."""
    audio_ids = manifest.prompt.audio_token_ids if manifest.prompt else ()
    return (*ids.before.tolist(), *audio_ids, *ids.after.tolist())


def _check_texts(prompt: AnyPrompt, system: str | None) -> None:
    given = {
        name: text
        for name, text in (("prompt", prompt), ("system", system))
        if not (text is None or isinstance(text, RawPrompt | PromptIds))
    }
    if faults := [fault for name, text in given.items() for fault in text_fault(name, text)]:
        raise RequestError("; ".join(faults))
