"""What a request asks the model: its own prompt, or that of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import invalid, refused

LANGUAGE = "{language}"
_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z -]{0,31}")


@dataclass(frozen=True)
class Prompts:
    """Those of the server."""

    transcription: str | None = None  # None: that of the artifact, or no text
    translation: str | None = None  # None: translations must have their own

    def for_transcription(self, prompt: str | None, language: str | None) -> str | None:
        """The prompt of a transcription; None is that of the artifact.

        Raises:
            ApiError: a language, and no prompt that names one.
        """
        if prompt is None and self.transcription is not None and LANGUAGE in self.transcription:
            if language is None:
                raise invalid("language", "it is missing: the prompt of this server names the language")
            return self.transcription.replace(LANGUAGE, _language(language))
        if language is not None:
            raise refused(
                "language",
                "this model is told the language in words: write it into prompt, or start the server with a "
                "--prompt that holds {language}",
            )
        return self.transcription if prompt is None else prompt

    def for_chat(self, prompt: str | None) -> str | None:
        """The prompt of a chat, which has no field for a language.

        Raises:
            ApiError: there is none, and that of the server lacks its language.
        """
        if prompt is None and self.transcription is not None and LANGUAGE in self.transcription:
            raise invalid(
                "messages", "a part of the type text is missing: the prompt of this server names a language"
            )
        return self.transcription if prompt is None else prompt

    def for_translation(self, prompt: str | None) -> str:
        """The prompt of a translation.

        Raises:
            ApiError: there is none, so the audio would be transcribed instead.
        """
        found = self.translation if prompt is None else prompt
        if found is None:
            raise invalid(
                "prompt",
                "it is missing: give the text that asks this model to translate, or start the server with "
                "--translation-prompt",
            )
        return found


def _language(text: str) -> str:
    if not _LANGUAGE.fullmatch(text):
        raise invalid("language", "give a name or code of a language, such as en")
    return text
