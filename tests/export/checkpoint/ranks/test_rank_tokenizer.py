"""A tokenizer that is made of ranks gives the ids of tiktoken; a broken file is refused by line."""

from __future__ import annotations

import base64
import random
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from tokenizers import Tokenizer

from fastadasp.export.checkpoint.ranks.rank_tokenizer import RankTokenizer, made_tokenizer
from fastadasp.profiles.errors import CheckpointError

tiktoken = pytest.importorskip("tiktoken", reason="compares with tiktoken, of the extra dev")

TEXT = (
    "the theme of these three theses is that others breathe the other ether; "
    "banana bandana, naïve café, 中文中文 日本語 中国, русский текст русская, 🙂🙂🙃 1234 1999 12.5"
)
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ("<|end|>", "<audio>", "</audio>", "<|0.00|>")
NUM_RANKS = 256 + 90
SCHEME = RankTokenizer("own.tiktoken", NUM_RANKS, PATTERN, SPECIAL)
MARK = "\u0338"  # becomes one character with a > before it
TEXTS = (
    "",
    TEXT,
    "<audio>a.wav</audio><|0.00|> the others<|end|>",
    "a<audio", "<|end|><|end|>", "<audio> the", "the\n\n  the \r\n\t the  ", "   ", "1234567",
    f"<audio>{MARK}the", f"<|end|>{MARK}", f"<audio{MARK}>",
    "cafe\u0301 nai\u0308ve", "\u1112\u1161\u11ab", "ﬁ ½ Å \u212b",
    "\x00\x01\x7f\x80\xad\xa0", "\ufffd\ufeff\u200b", "👩‍👩‍👧‍👦🇩🇪",
)  # fmt: skip


def trained():
    """Ranks that BPE learns from `TEXT`: the bytes first, in an order of their own."""
    rng = random.Random(0)
    order = rng.sample(range(256), 256)
    ranks = {bytes([byte]): rank for rank, byte in enumerate(order)}
    words = [[bytes([b]) for b in word.encode()] for word in re.findall(r" ?[^ ]+", TEXT)]
    while len(ranks) < NUM_RANKS:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        ranks[best[0] + best[1]] = len(ranks)
        words = [joined(word, best) for word in words]
    return ranks


def joined(word, pair):
    out = []
    for part in word:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


RANKS = trained()


def lines(ranks):
    return [base64.b64encode(token) + b" %d" % rank for token, rank in ranks.items()]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / SCHEME.file
    path.write_bytes(b"\n".join(lines(RANKS)) + b"\n")
    return path


def random_texts(count):
    rng, tokens = random.Random(1), list(RANKS)
    for _ in range(count):
        pieces = rng.choices(tokens, k=rng.randint(1, 20)) + [text.encode() for text in rng.choices(SPECIAL)]
        rng.shuffle(pieces)
        yield b"".join(pieces).decode("utf-8", "ignore")


def test_the_ids_of_any_text_are_those_of_tiktoken(file):
    special = {text: NUM_RANKS + i for i, text in enumerate(SPECIAL)}
    theirs = tiktoken.Encoding("own", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens=special)
    ours = Tokenizer.from_str(made_tokenizer(file, SCHEME))
    for text in (*TEXTS, *random_texts(500)):
        normal = unicodedata.normalize("NFC", text)
        expected = theirs.encode(normal, allowed_special="all")
        assert ours.encode(text, add_special_tokens=False).ids == expected, text
        assert ours.decode(expected, skip_special_tokens=False) == normal


def test_special_tokens_follow_the_ranks_and_are_left_out_of_an_answer(file):
    tokenizer = Tokenizer.from_str(made_tokenizer(file, SCHEME))
    assert [tokenizer.token_to_id(text) for text in SPECIAL] == list(range(NUM_RANKS, SCHEME.size))
    ids = tokenizer.encode("<|0.00|> the others<|end|>", add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == " the others"


def test_a_build_is_the_same_each_time_and_whatever_the_order_of_the_lines(file):
    once = made_tokenizer(file, SCHEME)
    file.write_bytes(b"\n".join(reversed(lines(RANKS))))
    assert made_tokenizer(file, SCHEME) == once


def replaced(number, line):
    found = lines(RANKS)
    found[number - 1] = line
    return b"\n".join(found)


ORPHAN = base64.b64encode(b"qxqxqx")
BYTE = min(RANKS, key=RANKS.__getitem__)[0]  # that of rank 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"it has 0 ranks, {NUM_RANKS} are expected"),
        (b"\n".join(lines(RANKS)[:-1]), f"it has {NUM_RANKS - 1} ranks, {NUM_RANKS} are expected"),
        (b"\n".join([*lines(RANKS), b"cXFx 346"]), "line 347: a token with a rank from 0 to 345 is expected"),
        (replaced(7, b"cXFx"), "line 7: b'cXFx' is no token in base64 with its rank"),
        (replaced(7, b"cXFx 6 6"), "line 7: b'cXFx 6 6' is no token in base64 with its rank"),
        (replaced(7, b"c?Fx 6"), "line 7: b'c?Fx 6' is no token in base64 with its rank"),
        (replaced(7, b"cXFx six"), "line 7: b'cXFx six' is no token in base64 with its rank"),
        (replaced(7, b"cXFx -6"), "line 7: a token with a rank from 0 to 345 is expected"),
        (replaced(7, b"cXFx 5"), "line 7: its token or its rank stands in line 6, too"),
        (replaced(7, lines(RANKS)[5][:-1] + b"6"), "line 7: its token or its rank stands in line 6, too"),
        (replaced(1, b"cXFx 0"), f"byte {BYTE} has no rank"),
        (replaced(346, ORPHAN + b" 345"), "the token of rank 345 is not made of two tokens of lower ranks"),
        (
            b"\xff\xfe\n" + replaced(9, b"x"),
            "line 1: b'\\xff\\xfe' is no token in base64 with its rank; line 10:",
        ),
        (b"x\n" * 9, "and 4 more faults; copy the file of the original checkpoint again"),
    ],
)
def test_a_broken_file_is_refused_by_line(file, content, message):
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        made_tokenizer(file, SCHEME)
    assert str(caught.value).startswith(f"{file}: ")
