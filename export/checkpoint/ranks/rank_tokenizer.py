"""A tokenizer.json from a file of ranks, as tiktoken reads them: byte-level BPE whose merges the ranks imply.

A line holds a token in base64 and its rank. Of two neighbours in a text, those are joined first whose bytes
together have the lowest rank. So the last two parts of a token, when it is made from its bytes by lower ranks
alone, are its merge; in a vocabulary that BPE has trained there are two of them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ....profiles.errors import CheckpointError

SHOWN_FAULTS = 5
Ranks = Mapping[bytes, int]


@dataclass(frozen=True)
class RankTokenizer:
    """What the code of a model knows of its tokenizer, beside the file of its ranks. Texts are NFC."""

    file: str
    num_ranks: int
    pattern: str  # of the pieces that a text is cut into
    special_tokens: tuple[str, ...]  # whose ids follow the ranks

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.num_ranks + len(self.special_tokens)

    def made(self, path: Path) -> str:
        """As `made_tokenizer`."""
        return made_tokenizer(path, self)


def made_tokenizer(path: Path, scheme: RankTokenizer) -> str:
    """The tokenizer as tokenizer.json has it.

    Raises:
        CheckpointError: with the lines of the file that are wrong.
    """
    tokenizer = tokenizer_of_ranks(path, _read(path, scheme.num_ranks), scheme.pattern)
    tokenizer.normalizer = normalizers.NFC()
    # They are looked for in the normalised text: a mark that joins their last character unmakes them.
    tokenizer.add_special_tokens([AddedToken(text, normalized=True) for text in scheme.special_tokens])
    assert tokenizer.get_vocab_size() == scheme.size, "a special token is spelt as one of the ranks"
    return str(tokenizer.to_str())


def tokenizer_of_ranks(path: Path, ranks: Ranks, pattern: str, first_tokens: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer without a normal form.

    Args:
        path: of the file that has the ranks, for messages.
        ranks: of each token, the bytes among them.
        pattern: of the pieces that a text is cut into.
        first_tokens: special tokens whose ids come before those of the ranks.

    Raises:
        CheckpointError: a byte has no rank, or a token is not made of two others of lower ranks.
    """
    refuse(path, [f"byte {byte} has no rank" for byte in range(256) if bytes([byte]) not in ranks])
    spelling = _spelling()

    def spelt(token: bytes) -> str:
        return "".join(map(spelling.__getitem__, token))

    merges = [(spelt(first), spelt(second)) for first, second in _merges(path, ranks)]
    vocabulary = {token: number for number, token in enumerate(first_tokens)}
    vocabulary |= {spelt(token): len(first_tokens) + rank for token, rank in ranks.items()}
    assert len(vocabulary) == len(first_tokens) + len(ranks), "a special token is spelt as one of the ranks"
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read(path: Path, count: int) -> Ranks:
    """Token -> rank, in the order of the ranks.

    Raises:
        CheckpointError: with the first lines that are wrong, or how many ranks there are.
    """
    places: dict[int, tuple[int, bytes]] = {}  # rank -> line and token
    lines: dict[bytes, int] = {}
    faults: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            text, rank_text = line.split()
            token, rank = base64.b64decode(text, validate=True), int(rank_text)
        except (ValueError, binascii.Error):
            faults.append(f"line {number}: {line[:40]!r} is no token in base64 with its rank")
            continue
        if not token or not 0 <= rank < count:
            faults.append(f"line {number}: a token with a rank from 0 to {count - 1} is expected")
        elif (other := lines.get(token, places.get(rank, (0, b""))[0])) > 0:
            faults.append(f"line {number}: its token or its rank stands in line {other}, too")
        else:
            places[rank], lines[token] = (number, token), number
    if not faults and len(places) != count:
        faults.append(f"it has {len(places)} ranks, {count} are expected")
    refuse(path, faults)
    return {places[rank][1]: rank for rank in range(count)}


def _merges(path: Path, ranks: Ranks) -> Iterator[tuple[bytes, bytes]]:
    """The parts of each token of several bytes, in the order of their ranks."""
    faults = []
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = _parts(token, rank, ranks.get)
        if len(parts) == 2:
            yield parts[0], parts[1]
        else:
            faults.append(f"the token of rank {rank} is not made of two tokens of lower ranks")
    refuse(path, faults)


def _parts(token: bytes, limit: int, rank_of: Callable[[bytes, int], int]) -> list[bytes]:
    """What the bytes of a token become by ranks below `limit`."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [rank_of(first + second, limit) for first, second in pairwise(parts)]
        if (least := min(joined)) == limit:
            break
        at = joined.index(least)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise the first faults of a file, if there are any."""
    if faults:
        more = len(faults) - SHOWN_FAULTS
        shown = [*faults[:SHOWN_FAULTS], *([f"and {more} more faults"] if more > 0 else [])]
        raise CheckpointError(f"{path}: {'; '.join(shown)}; copy the file of the original checkpoint again")


def _spelling() -> list[str]:
    """How byte-level BPE spells each byte: what is printable as itself, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
