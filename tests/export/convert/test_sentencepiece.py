"""A SentencePiece model becomes a tokenizer that gives its ids and its texts."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastadasp.export.convert.sentencepiece import parse, read_tokenizer
from fastadasp.profiles.errors import CheckpointError

sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")

VOCABULARY = 340
LIKE_LLAMA: dict[str, Any] = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
    "vocab_size": VOCABULARY,
}
SAID = (
    "[INST]<<SYS>>\nAs a helpful language and speech assistant, you are able to understand the speech "
    "content\n<</SYS>>\n\n<SPEECH>",
    " </SPEECH> Transcribe the audio clip into text. [/INST]",
    '"How does the speaker feel?"',
    '""',
    "",
    " ",
    "  two  spaces\t\n",
    "<s> is no token in a text </s> <unk> <0x41>",
    "\u2581 is the sign for a space",
    "你好 ß é 😀",
    "2048 positions, 12.5 tokens/s",
)


def train(**changes: Any) -> bytes:
    words = " ".join(SAID) + " the speech content of an audio clip, as a helpful assistant would tell it " * 3
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words.split("\n")),
        model_writer=model,
        minloglevel=2,
        **{**LIKE_LLAMA, **changes},
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def content() -> bytes:
    return train()


@pytest.fixture
def file(content: bytes, tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(content)
    return tmp_path / "tokenizer.model"


def texts() -> Iterator[str]:
    yield from SAID
    rng = random.Random(0)
    alphabet = " abcdefghijklmnopqrstuvwxyz<>/[]\n\t\"'éß你好😀0123456789\u2581"
    for _ in range(500):
        yield "".join(rng.choice(alphabet) for _ in range(rng.randrange(60)))


def test_ids_and_texts_are_those_of_sentencepiece(content: bytes, file: Path) -> None:
    original, ours = sentencepiece.SentencePieceProcessor(model_proto=content), read_tokenizer(file)
    for text in texts():
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == original.encode(text), text
        assert ours.decode(ids) == original.decode(ids), text


def test_a_saved_tokenizer_is_the_same(file: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    ours = read_tokenizer(file)
    ours.save(str(tmp_path / "tokenizer.json"))
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in SAID:
        assert saved.encode(text).ids == ours.encode(text).ids
    assert saved.decode([1, *saved.encode("a text").ids, 2]) == "a text", "control tokens have no text"


def test_pieces_are_read_as_sentencepiece_reads_them(content: bytes) -> None:
    original, model = sentencepiece.SentencePieceProcessor(model_proto=content), parse(content)
    assert [piece.text for piece in model.pieces] == [original.id_to_piece(i) for i in range(VOCABULARY)]
    assert [piece.score for piece in model.pieces] == [original.get_score(i) for i in range(VOCABULARY)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "unigram"}, "no BPE model"),
        ({"byte_fallback": False}, "no BPE model with bytes"),
        ({"remove_extra_whitespaces": True}, "it changes texts before it splits them"),
        ({"normalization_rule_name": "nmt_nfkc"}, "it changes texts before it splits them"),
        ({"user_defined_symbols": ["<x>"]}, "pieces of another type: '<x>'"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "m").write_bytes(train(**changes))
    with pytest.raises(CheckpointError, match=message):
        read_tokenizer(tmp_path / "m")


def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    for size in range(0, len(content), len(content) // 50):
        (tmp_path / "m").write_bytes(content[:size])  # its last part says what kind it is
        with pytest.raises(CheckpointError, match=f"{tmp_path / 'm'}: "):
            read_tokenizer(tmp_path / "m")
    with pytest.raises(CheckpointError, match="no such file"):
        read_tokenizer(tmp_path / "none")
    (tmp_path / "m").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a SentencePiece model, or cut off"):
        read_tokenizer(tmp_path / "m")
