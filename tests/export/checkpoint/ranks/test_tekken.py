"""A tokenizer that is made of tekken.json gives the ids of tiktoken behind its control tokens."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from fastadasp.export.checkpoint.ranks.tekken import NAMELESS, OLD_TOKENS, Tekken
from fastadasp.profiles.errors import CheckpointError

from .test_rank_tokenizer import PATTERN, RANKS, TEXTS, random_texts

NUM_CONTROL, BEYOND = 30, 7
LISTED = [*OLD_TOKENS, "[AUDIO]", "[BEGIN_AUDIO]"]


def tekken_content(**changes):
    """As mistral-common writes it; the last ranks are beyond the vocabulary."""
    in_order = sorted(RANKS, key=RANKS.__getitem__)
    config = {
        "pattern": PATTERN,
        "num_vocab_tokens": len(RANKS),
        "default_vocab_size": NUM_CONTROL + len(RANKS) - BEYOND,
        "default_num_special_tokens": NUM_CONTROL,
        "version": "v7",
    }
    content = {
        "config": config,
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for i, token in enumerate(in_order)
        ],
        "special_tokens": [
            {"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(LISTED)
        ],
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        content[section] = {**content[section], key: value} if key else value
    return content


def made(folder: Path, **changes):
    path = folder / "tekken.json"
    path.write_text(json.dumps(tekken_content(**changes)))
    return Tokenizer.from_str(Tekken().made(path))


def test_the_ids_of_any_text_are_those_of_tiktoken(tmp_path):
    tiktoken = pytest.importorskip("tiktoken", reason="compares with tiktoken, of the extra dev")
    ours = made(tmp_path)
    kept = {token: rank for token, rank in RANKS.items() if rank < len(RANKS) - BEYOND}
    theirs = tiktoken.Encoding("own", pat_str=PATTERN, mergeable_ranks=kept, special_tokens={})
    for text in (*TEXTS, *random_texts(300)):
        expected = [NUM_CONTROL + rank for rank in theirs.encode_ordinary(text)]
        assert ours.encode(text, add_special_tokens=False).ids == expected, text
        assert ours.decode(expected, skip_special_tokens=False) == text


def test_control_tokens_come_first_and_are_left_out_of_an_answer(tmp_path):
    ours = made(tmp_path)
    names = [*LISTED, *(NAMELESS.format(number=i) for i in range(len(LISTED), NUM_CONTROL))]
    assert [ours.token_to_id(text) for text in names] == list(range(NUM_CONTROL))
    ids = ours.encode("<s>[INST][BEGIN_AUDIO] the[/INST]", add_special_tokens=False).ids
    assert ids[:3] == [1, 3, 21]
    assert ids[-1] == 4
    assert ours.decode(ids, skip_special_tokens=True) == " the"


def test_an_older_file_lists_no_control_tokens(tmp_path):
    ours = made(tmp_path, special_tokens=None)
    assert ours.token_to_id("[INST]") == 3
    assert ours.token_to_id("<SPECIAL_20>") == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": []}, "config: a text and two numbers are expected, pattern, default_vocab_size"),
        ({"config__pattern": 3}, "config: a text and two numbers"),
        ({"config__default_vocab_size": 10}, "config: 30 control tokens of 10 tokens"),
        ({"config__default_vocab_size": 400}, "vocab: it has 346 tokens, 370 are expected"),
        ({"vocab": [{"rank": 0, "token_bytes": "?"}]}, "vocab[0]: a token of its own in base64"),
        ({"vocab": []}, "vocab: it has 0 tokens"),
        ({"special_tokens": [{"rank": 30, "token_str": "x"}]}, "special_tokens: ranks below 30 and texts"),
        ({"special_tokens": [{"rank": 0, "token_str": "x"}, {"rank": 0, "token_str": "y"}]}, "each of them"),
        ({"special_tokens": [{"rank": 0, "token_str": "x"}, {"rank": 1, "token_str": "x"}]}, "each of them"),
    ],
    ids=str,
)
def test_a_broken_file_is_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=re.escape(message)):
        made(tmp_path, **changes)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "tekken.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tekken\.json: is no JSON"):
        Tekken().made(tmp_path / "tekken.json")
