"""A SentencePiece model as LLaMA has them (BPE with bytes) to the tokenizer that a build reads.

Its file is a protocol buffer, of which few fields matter: sentencepiece_model.proto of google/sentencepiece,
ModelProto {1: pieces {1: text, 2: score, 3: type}, 2: trainer {3: kind, 35: byte_fallback}, 3: normaliser
{2: precompiled map, 3: add_dummy_prefix, 4: remove_extra_whitespaces}}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers

from ...profiles.errors import CheckpointError

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of pieces
BPE = 2  # kind of model
SPACE = "\u2581"
WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary, whose id is its place."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class PieceModel:
    """What a SentencePiece file says."""

    pieces: tuple[Piece, ...]
    kind: int
    byte_fallback: bool
    has_map: bool  # characters are replaced before anything else
    adds_space: bool  # before the text
    removes_spaces: bool  # beyond one


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer that gives the ids of a SentencePiece model, and their text.

    No text of a request becomes a control token, as in SentencePiece: `</s>` in a prompt is ordinary text.

    Raises:
        CheckpointError: no such model, or one of another kind.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; give the SentencePiece model, mostly tokenizer.model")
    try:
        model = parse(file.read_bytes())
    except (ValueError, IndexError, struct.error):
        raise CheckpointError(f"{file}: not a SentencePiece model, or cut off; copy it again") from None
    if faults := list(_faults(model)):
        raise CheckpointError(f"{file}: {'; '.join(faults)}; only models as LLaMA has them are read")
    return _tokenizer(model)


def _faults(model: PieceModel) -> Iterator[str]:
    if model.kind != BPE or not model.byte_fallback:
        yield "it is no BPE model with bytes for what it does not know"
    if model.has_map or model.removes_spaces:
        yield "it changes texts before it splits them"
    known = NORMAL, UNKNOWN, CONTROL, BYTE
    if other := [piece.text for piece in model.pieces if piece.type not in known]:
        yield f"pieces of another type: {', '.join(map(repr, other[:3]))}"
    if len({piece.text for piece in model.pieces}) < len(model.pieces):
        yield "a piece stands there twice"
    if not any(piece.type == UNKNOWN for piece in model.pieces):
        yield "no piece stands for the unknown"


def _tokenizer(model: PieceModel) -> Tokenizer:
    vocab = {piece.text: i for i, piece in enumerate(model.pieces)}
    unknown = next(piece.text for piece in model.pieces if piece.type == UNKNOWN)
    bpe = models.BPE(vocab, _merges(model), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", SPACE)]
    if model.adds_space:
        steps.insert(0, normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    silent = "|".join(_escaped(piece.text) for piece in model.pieces if piece.type == CONTROL)
    parts: list[decoders.Decoder] = [decoders.Replace(Regex(f"^(?:{silent})$"), "")] if silent else []
    parts += [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.adds_space:
        parts.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def _merges(model: PieceModel) -> list[tuple[str, str]]:
    """Every split of a piece into two others, the best pieces first, as SentencePiece merges them."""
    known = {piece.text: i for i, piece in enumerate(model.pieces) if piece.type == NORMAL}
    best = sorted(known, key=lambda text: (-model.pieces[known[text]].score, known[text]))
    return [
        (text[:at], text[at:])
        for text in best
        for at in range(1, len(text))
        if text[:at] in known and text[at:] in known
    ]


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if not character.isalnum() else character for character in text)


def parse(content: bytes) -> PieceModel:
    """Read the file.

    Raises:
        ValueError, IndexError, struct.error: it is no such protocol buffer.
    """
    message = dict[int, list[bytes | int]]()
    for number, value in _fields(content):
        message.setdefault(number, []).append(value)
    pieces = tuple(_piece(_sub(value)) for value in message.get(1, []))
    trainer, normaliser = (_sub(message[number][-1]) if number in message else {} for number in (2, 3))
    if not pieces:
        raise ValueError("no pieces")
    return PieceModel(
        pieces=pieces,
        kind=int(trainer.get(3, 1)),
        byte_fallback=bool(trainer.get(35, 0)),
        has_map=bool(normaliser.get(2, b"")),
        adds_space=bool(normaliser.get(3, 1)),
        removes_spaces=bool(normaliser.get(4, 1)),
    )


def _piece(fields: Mapping[int, bytes | int]) -> Piece:
    text, score = fields[1], fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("a piece is of another type")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], int(fields.get(3, NORMAL)))


def _sub(value: bytes | int) -> dict[int, bytes | int]:
    """A message within a message; of a field that stands there twice, the last."""
    if not isinstance(value, bytes):
        raise ValueError("a message is of another type")
    return dict(_fields(value))


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field: a whole number, or bytes."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield number, value
            continue
        sizes = {WIRE_FIXED64: 8, WIRE_FIXED32: 4}
        if wire == WIRE_BYTES:
            size, at = _varint(content, at)
        elif wire in sizes:
            size = sizes[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(content):
            raise ValueError("cut off")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, and the place after it."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")
