"""A tokenizer.json from tekken.json, the file of mistral-common: ranks as of tiktoken, and control tokens.

The control tokens come first, as many as the file says; those that it does not name have a number in place of
a name. Of the ranks only so many count that the vocabulary is full. Texts are taken as they are.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from ....profiles.errors import CheckpointError
from ....profiles.faults import is_count, shown
from ....profiles.json_text import JsonError, read_object
from .rank_tokenizer import refuse, tokenizer_of_ranks

NAMELESS = "<SPECIAL_{number}>"
LARGEST_VOCABULARY = 2**24
OLD_TOKENS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"),
    *("[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)
"""Those of files that list none."""


@dataclass(frozen=True)
class Tekken:
    """The file, for checkpoints that have no tokenizer.json."""

    file: str = "tekken.json"

    def made(self, path: Path) -> str:
        """The tokenizer as tokenizer.json has it.

        Raises:
            CheckpointError: with what is wrong in the file.
        """
        try:
            content = read_object(path.read_bytes(), lenient=True)
        except JsonError as error:
            raise CheckpointError(
                f"{path}: {error}; copy the file of the original checkpoint again"
            ) from None
        pattern, size, num_control = _config(path, content.get("config"))
        control = _control_tokens(path, content.get("special_tokens"), num_control)
        ranks = _ranks(path, content.get("vocab"), size - num_control)
        tokenizer = tokenizer_of_ranks(path, ranks, pattern, control)
        tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in control])
        assert tokenizer.get_vocab_size() == size, "every token has an id of its own"
        return str(tokenizer.to_str())


def _config(path: Path, config: object) -> tuple[str, int, int]:
    """The pattern of pieces, the size of the vocabulary, and how many of it are control tokens."""
    found: Mapping[str, Any] = config if isinstance(config, dict) else {}
    keys = ("pattern", "default_vocab_size", "default_num_special_tokens")
    pattern, size, control = (found.get(key, "") for key in keys)
    if not (isinstance(pattern, str) and is_count(size) and is_count(control)):
        refuse(path, [f"config: a text and two numbers are expected, {', '.join(keys)}"])
    if not control < size <= LARGEST_VOCABULARY:
        refuse(path, [f"config: {control} control tokens of {shown(size)} tokens"])
    return str(pattern), int(size), int(control)


def _control_tokens(path: Path, listed: object, count: int) -> list[str]:
    """Their texts, in the order of their ids."""
    entries = listed if isinstance(listed, list) else []
    if listed is None:
        entries = [{"rank": i, "token_str": text} for i, text in enumerate(OLD_TOKENS)]
    names = {
        entry["rank"]: entry["token_str"]
        for entry in entries
        if isinstance(entry, dict)
        and is_count(entry.get("rank"), 0)
        and isinstance(entry.get("token_str"), str)
    }
    tokens = [names.get(number, NAMELESS.format(number=number)) for number in range(count)]
    if len(names) != len(entries) or any(number >= count for number in names) or len(set(tokens)) != count:
        refuse(path, [f"special_tokens: ranks below {count} and texts are expected, each of them once"])
    return tokens


def _ranks(path: Path, vocabulary: object, count: int) -> dict[bytes, int]:
    """Token -> rank, of the first `count` ranks."""
    entries = vocabulary if isinstance(vocabulary, list) else []
    found: dict[bytes, int] = {}
    faults = []
    for number, entry in enumerate(entries[:count]):
        token = _bytes(entry, number)
        if token is None or token in found:
            faults.append(f"vocab[{number}]: a token of its own in base64 with its rank {number} is expected")
        else:
            found[token] = number
    if len(entries) < count:
        faults.append(f"vocab: it has {len(entries)} tokens, {count} are expected")
    refuse(path, faults)
    return found


def _bytes(entry: object, rank: int) -> bytes | None:
    """Those of a token that stands at its place; None of any other entry."""
    spelt = entry.get("token_bytes") if isinstance(entry, dict) and entry.get("rank") == rank else None
    if not isinstance(spelt, str):
        return None
    try:
        return base64.b64decode(spelt, validate=True) or None
    except (ValueError, binascii.Error):
        return None
