"""CIDEr as pycocoevalcap has it; SPICE where CoreNLP is, and otherwise the reason why not."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from fastadasp.evaluation.metrics import captioning
from fastadasp.evaluation.metrics.ptb_tokens import ptb_tokens
from fastadasp.evaluation.metrics.tasks import TASKS
from fastadasp.profiles.errors import DependencyError

pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="no java here")

ANSWERS = ["A dog barks, loudly.", "It's raining on a roof", "", "People talk & laugh in a room!"]
REFERENCES = [
    ["a dog is barking loudly", "a dog barks"],
    ["rain falls on a roof"],
    ["birds sing", "a bird is singing (far away)"],
    ["people laugh in a room", "a crowd talks and laughs"],
]


def measured(answers=ANSWERS, references=REFERENCES):
    return {sample.metric.name: sample for sample in TASKS["caption"].measure_for()(answers, references)}


def test_tokens_are_those_of_pycocoevalcap():
    captions = [text for texts in REFERENCES for text in texts] + [text for text in ANSWERS if text]
    expected = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(captions)})
    assert ptb_tokens(captions) == [expected[i][0] for i in range(len(captions))]


def test_a_line_break_in_a_caption_shifts_no_other():
    captions = ["", "one\ntwo", "three\u2028four\r", " ", "naïve 狗", ""]
    assert ptb_tokens(captions) == ["", "one two", "three four", "", "naïve 狗", ""]


def test_cider_is_that_of_pycocoevalcap_and_the_mean_of_its_clips():
    tokens = {i: ptb_tokens([text]) for i, text in enumerate(ANSWERS)}
    references = {i: ptb_tokens(texts) for i, texts in enumerate(REFERENCES)}
    expected, each = Cider().compute_score(references, tokens)
    cider = measured()["cider"]
    assert cider.value == pytest.approx(expected)
    assert cider.statistics[:, 0] == pytest.approx(each)
    assert cider.of_sums(cider.statistics.sum(0)) == pytest.approx(expected)


@given(order=st.permutations(range(len(ANSWERS))))
@settings(max_examples=3)
def test_the_order_of_the_clips_changes_nothing(order):
    shuffled = measured([ANSWERS[i] for i in order], [REFERENCES[i] for i in order])
    assert shuffled["cider"].value == pytest.approx(measured()["cider"].value)


def test_without_corenlp_spice_and_spider_are_absent_and_say_why():
    if all((captioning.spice_folder() / name).is_file() for name in captioning.CORENLP):
        pytest.skip("CoreNLP is installed here")
    found = measured()
    assert found["spice"].value is None
    assert found["spice"].reason == (
        "needs stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar in pycocoevalcap/spice/lib"
    )
    assert (found["spider"].value, found["spider"].reason) == (None, "needs SPICE")


def test_with_corenlp_each_clip_gets_the_score_that_spice_gave_to_it(monkeypatch, tmp_path):
    """A stand-in for SPICE, which answers as it does: sorted by the text of the id, whatever the order."""

    class Spice:
        def compute_score(self, references, answers):
            return None, [{"All": {"f": len(answers[name][0]) / 100}} for name in sorted(answers)]

    for name in captioning.CORENLP:
        (tmp_path / name).touch()
    monkeypatch.setattr(captioning, "spice_folder", lambda: tmp_path)
    monkeypatch.setitem(sys.modules, "pycocoevalcap.spice.spice", ModuleType("spice"))
    monkeypatch.setattr(sys.modules["pycocoevalcap.spice.spice"], "Spice", Spice, raising=False)
    answers = [" ".join(["dog"] * (i + 1)) for i in range(12)]
    found = measured(answers, [["a dog"]] * 12)
    assert found["spice"].statistics[:, 0] == pytest.approx([len(text) / 100 for text in answers])
    assert found["spider"].value == pytest.approx((found["spice"].value + found["cider"].value) / 2)


def test_one_clip_has_no_cider_for_its_words_weigh_nothing():
    assert measured(ANSWERS[:1], REFERENCES[:1])["cider"].reason == "needs at least 2 clips"


def test_without_java_every_metric_says_so(monkeypatch):
    monkeypatch.setattr(captioning.shutil, "which", lambda name: None)
    assert {sample.reason for sample in measured().values()} == {captioning.NO_JAVA}


def test_a_java_that_does_not_run_is_named(monkeypatch, tmp_path):
    (tmp_path / "java").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(DependencyError, match=r"java does not run the tokenizer \(broken\)"):
        ptb_tokens(["a dog"])
