"""What a build needs of a checkpoint's tokenizer: the text of a token and its id, and prompts as ids.

It is tokenizer.json; without one, it is made of a file of ranks, if the family of the checkpoint has such.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from ...profiles.errors import ArtifactError, CheckpointError
from ...runtime.artifact.artifact import TOKENIZER
from ...runtime.artifact.prompt import Prompt
from ...runtime.prompt import PromptCodec, tokenizer_of
from .checkpoint import Checkpoint


def tokenizer_file(checkpoint: Checkpoint) -> Path | None:
    """The checkpoint's tokenizer.json, or the file of ranks that its family reads; None without either."""
    if not checkpoint.reads_tokenizer:
        return None
    names = _names(checkpoint)
    return next((path for name in names if (path := checkpoint.folder / name).is_file()), None)


def _names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Of the files that may hold its tokenizer."""
    ranks = checkpoint.rank_tokenizer
    return (TOKENIZER, *([ranks.file] if ranks else []))


def missing_tokenizer(checkpoint: Checkpoint) -> Iterator[str]:
    """What whoever builds a checkpoint without a tokenizer should know."""
    if tokenizer_file(checkpoint) is None:
        yield (
            f"checkpoint {checkpoint.folder} has no {' or '.join(_names(checkpoint))}: the artifact takes "
            "token ids alone, no text; add that of the original model and build again"
        )


@lru_cache(maxsize=1)
def tokenizer_json(checkpoint: Checkpoint) -> bytes | None:
    """What tokenizer.json holds or would hold; None where there is no tokenizer.

    Raises:
        CheckpointError: a file of ranks that is broken.
    """
    path = tokenizer_file(checkpoint)
    if path is None:
        return None
    if path.name == TOKENIZER:
        return path.read_bytes()
    assert checkpoint.rank_tokenizer is not None, "its file was found"
    return checkpoint.rank_tokenizer.made(path).encode()


def prompt_codec(checkpoint: Checkpoint, prompt: Prompt | None) -> PromptCodec:
    """What reads the prompts of a checkpoint, whose template is `prompt`.

    Raises:
        CheckpointError: it has no tokenizer.
    """
    tokenizer = _load(checkpoint)
    if tokenizer is None or prompt is None:
        raise CheckpointError(f"checkpoint {checkpoint.folder}: it has no {TOKENIZER} to read prompts")
    return PromptCodec(tokenizer, prompt)


@lru_cache(maxsize=1)
def _load(checkpoint: Checkpoint) -> Tokenizer | None:
    """The checkpoint's tokenizer, read once a build; None where there is none.

    Raises:
        CheckpointError: the file is no tokenizer.
    """
    path = tokenizer_file(checkpoint)
    if path is None:
        return None
    if path.name == TOKENIZER and not isinstance(checkpoint.json(path.name).get("model"), dict):
        raise CheckpointError(f"{path}: it describes no tokenizer; save it again with save_pretrained")
    content = tokenizer_json(checkpoint)
    assert content is not None, "its file was found"
    try:
        return tokenizer_of(content, str(path))
    except ArtifactError as error:
        raise CheckpointError(str(error)) from None


def token_text(checkpoint: Checkpoint, token: int) -> str | None:
    """The text of a token; None where there is no tokenizer.

    Raises:
        CheckpointError: the tokenizer does not know the id.
    """
    tokenizer = _load(checkpoint)
    if tokenizer is None:
        return None
    text = tokenizer.id_to_token(token)
    if text is None:
        path = tokenizer_file(checkpoint)
        raise CheckpointError(f"{path}: no token has the id {token} that config.json gives to audio")
    return str(text)


def token_id(checkpoint: Checkpoint, text: str, asked_by: str = "config.json") -> int | None:
    """The id of a token, which a file of the checkpoint asks for; None where there is no tokenizer.

    Raises:
        CheckpointError: the tokenizer lacks the token.
    """
    tokenizer = _load(checkpoint)
    if tokenizer is None:
        return None
    token = tokenizer.token_to_id(text)
    if token is None:
        raise CheckpointError(
            f"{tokenizer_file(checkpoint)}: the token {text} is missing, which {asked_by} asks for"
        )
    return int(token)
