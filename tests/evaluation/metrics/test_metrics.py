"""Each figure is its library's own for all clips, and the sums that a bootstrap uses give the same one."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from fastadasp.evaluation.figures.scores import score
from fastadasp.evaluation.metrics.normalizers import NORMALIZERS
from fastadasp.evaluation.metrics.scripts import are_unspaced
from fastadasp.evaluation.metrics.tasks import TASKS
from fastadasp.evaluation.metrics.word_errors import CER, DETAILS, KINDS, WER

WORDS = ("one", "two", "three", "four", "Five.", "sechs", "七", "!")
TEXT = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
CLIPS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8)
LABEL = st.sampled_from(("happy", "sad", "angry"))
LABELLED = st.lists(st.tuples(st.one_of(LABEL, TEXT), LABEL), min_size=1, max_size=12)
TEXT_TASKS = ("asr", "translate", "qa")


def samples(task, clips, languages=()):
    hypotheses, references = zip(*clips, strict=True)
    found = TASKS[task].measure_for(languages)(hypotheses, [[text] for text in references])
    return {sample.metric.name: sample for sample in found}


def texts(clips):
    return [reference for _, reference in clips], [hypothesis for hypothesis, _ in clips]


@pytest.mark.parametrize("task", TEXT_TASKS)
@given(clips=CLIPS)
@settings(max_examples=60)
def test_the_sum_over_all_clips_gives_the_value(task, clips):
    for sample in samples(task, clips).values():
        if sample.value is None:
            continue
        assert sample.of_sums(sample.statistics.sum(0)) == pytest.approx(sample.value, abs=1e-9)


@pytest.mark.parametrize("task", TEXT_TASKS)
@given(clips=CLIPS, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_the_sum_over_drawn_clips_is_what_the_library_gives_for_them(task, clips, seed):
    drawn = np.random.default_rng(seed).integers(len(clips), size=len(clips))
    whole, part = samples(task, clips), samples(task, [clips[i] for i in drawn])
    for name, sample in whole.items():
        if sample.value is not None and part[name].value is not None:
            found = sample.of_sums(sample.statistics[drawn].sum(0)[None])
            assert found == pytest.approx([part[name].value], abs=1e-9)


@given(clips=LABELLED, seed=st.integers(0, 99))
@settings(max_examples=100)
def test_accuracy_and_macro_f1_are_those_of_scikit_learn_on_any_draw(clips, seed):
    whole = samples("classify", clips)
    drawn = np.random.default_rng(seed).integers(len(clips), size=len(clips))
    truth, answers = texts([clips[i] for i in drawn])
    labels = sorted(set(truth))
    f1 = f1_score(truth, answers, labels=labels, average="macro", zero_division=0)
    sums = {name: sample.statistics[drawn].sum(0) for name, sample in whole.items()}
    assert whole["macro_f1"].of_sums(sums["macro_f1"]) == pytest.approx(f1)
    assert whole["accuracy"].of_sums(sums["accuracy"]) == pytest.approx(accuracy_score(truth, answers))


@given(clips=CLIPS)
@example(clips=[("", ""), ("one two", "")])
@settings(max_examples=60)
def test_error_rates_are_those_of_jiwer(clips):
    references, hypotheses = texts(clips)
    assume(not are_unspaced(references))
    found = samples("asr", clips)
    if not any(references):
        assert found["wer"].value is None
        assert "no word" in found["wer"].reason
        return
    assert found["wer"].value == jiwer.wer(references, hypotheses)
    assert found["cer"].value == jiwer.cer(references, hypotheses)


@given(clips=CLIPS)
@settings(max_examples=60)
def test_word_errors_are_told_by_kind(clips):
    references, hypotheses = texts(clips)
    assume(not are_unspaced(references))
    found = samples("asr", clips)
    if not any(references):
        return
    output, words = jiwer.process_words(references, hypotheses), sum(map(len, map(str.split, references)))
    counts = output.substitutions, output.deletions, output.insertions, output.hits
    for metric, count in zip(KINDS, counts, strict=True):
        assert found[metric.name].value == pytest.approx(count / words)
    assert sum(counts[:3]) / words == pytest.approx(found["wer"].value)


def test_an_answer_is_short_with_at_most_half_of_the_words():
    clips = [("a b", "a b c d"), ("a b c", "a b c d e"), ("", "a"), ("a", ""), ("", "")]
    assert samples("asr", clips)["short_answers"].value == 2 / 5


@given(clips=CLIPS)
@settings(max_examples=60)
def test_bleu_and_chrf_are_those_of_sacrebleu(clips):
    references, hypotheses = texts(clips)
    found = samples("translate", clips)
    assume(not found["bleu"].reason)
    assert found["bleu"].value == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert found["chrf"].value == sacrebleu.corpus_chrf(hypotheses, [references]).score


def test_word_errors_are_summed_over_the_corpus_not_averaged_over_clips():
    clips = [("a", "a b c d e f g h i j"), ("x", "x")]
    assert samples("asr", clips)["wer"].value == 9 / 11


def test_bleu_records_its_signature_and_takes_the_tokenizer_of_the_language():
    clips = [("我喜欢音乐", "我喜欢音乐")]
    plain, chinese = samples("translate", clips)["bleu"], samples("translate", clips, ("zh",))["bleu"]
    assert "tok:13a" in plain.metric.made_by
    assert "tok:zh" in chinese.metric.made_by
    assert f"version:{sacrebleu.__version__}" in chinese.metric.made_by
    assert chinese.value == pytest.approx(100)
    assert "tok:13a" in samples("translate", clips, ("de", "zh"))["bleu"].metric.made_by


@pytest.mark.parametrize("language", ["zh", "zh-CN", "zh_TW", "ZH"])
def test_of_a_code_of_a_language_the_language_counts(language):
    clips = [("我喜欢音乐", "我喜欢音乐")]
    assert samples("translate", clips, (language,))["bleu"].value == pytest.approx(100)


@pytest.mark.parametrize("languages", [(), ("",), ("", "zh"), ("de", "zh"), ("Chinese",)])
def test_texts_without_blanks_have_no_bleu_unless_their_language_is_known(languages):
    found = samples("translate", [("我喜欢音乐", "我喜欢音乐"), ("gut", "gut")], languages)
    assert found["bleu"].value is None
    assert "give all clips their language, zh or ja" in found["bleu"].reason
    assert found["chrf"].value == pytest.approx(100)


@pytest.mark.parametrize("language", ["", "th", "km"])
@pytest.mark.parametrize("text", ["ฉันชอบดนตรีมากและฟังทุกวัน", "ຂ້ອຍມັກດົນຕີ", "ខ្ញុំចូលចិត្តតន្ត្រី", "ကျွန်တော် ဂီတကြိုက်တယ်"])
def test_scripts_without_blanks_that_no_tokenizer_splits_have_no_bleu(text, language):
    found = samples("translate", [(text, text)], (language,))
    assert found["bleu"].value is None
    assert "of other languages chrF tells" in found["bleu"].reason
    assert found["chrf"].value == pytest.approx(100)


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [
        ("今天天气很好", "今天天汽很好", 1 / 6),
        ("きょうは雨です", "きょうは飴です", 1 / 7),
        ("สวัสดีครับ", "สวัสดีค่ะ", 3 / 10),
    ],
)
def test_transcripts_without_blanks_are_measured_by_their_characters_alone(said, heard, wrong):
    first, *others = TASKS["asr"].measure_for()([heard, "gut"], [[said], ["gut"]])
    assert first.metric is CER
    assert first.value == pytest.approx(wrong * len(said) / (len(said) + 3))
    assert [sample.metric for sample in others] == [WER, *DETAILS]
    assert all(sample.value is None and "CER" in sample.reason for sample in others)


def test_a_few_letters_without_blanks_leave_words_to_compare():
    first, *_ = TASKS["asr"].measure_for()(["she said 好"], [["she said 你"]])
    assert (first.metric, first.value) == (WER, pytest.approx(1 / 3))


@pytest.mark.parametrize("task", ["classify", "qa"])
def test_a_reference_that_is_empty_once_normalised_makes_no_answer_right(task):
    truth, answers = [["<happy>"], ["<sad>"]], {"full": ["<sad>", "<happy>"]}
    for figure in score(task, truth, answers)["full"]:
        assert figure.value is None
        assert "a reference is empty once it is normalised" in figure.reason
    assert score(task, truth, answers, normalizer="none")["full"][0].value == 0


def test_an_accepted_answer_that_is_empty_once_normalised_is_none():
    (figure,) = score("qa", [["yes", "[yes]"], ["?", "no"]], {"full": ["yes", "[no]"]})["full"]
    assert figure.value == 0.5


def test_an_answer_that_is_no_label_is_a_miss_and_no_class():
    found = samples("classify", [("happy", "happy"), ("a song", "sad")])
    assert found["accuracy"].value == 0.5
    assert found["macro_f1"].value == 0.5


def test_exact_match_takes_any_accepted_answer():
    measure = TASKS["qa"].measure_for()
    (found,) = measure(["two", "blue", "red"], [["2", "two"], ["red"], ["red", "crimson"]])
    assert found.value == pytest.approx(2 / 3)


# Normalisers


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none", "Mr. Smith's  [laughs] colour,\n twenty-one!"),
        ("basic", "mr smith s colour twenty one"),
        ("english", "mister smith is color 21"),
    ],
)
def test_a_normaliser_does_what_its_name_says(name, text):
    given = "Mr. Smith's  [laughs] colour,\n twenty-one!"
    expected = " ".join(given.split()) if name == "none" else text
    assert NORMALIZERS[name].load()(given) == expected


@pytest.mark.parametrize(
    ("said", "heard"),
    [("यह दिन अच्छा है", "यह दीन अच्छी हो"), ("தமிழ் மொழி", "தமழ மொழி"), ("สวัสดีครับ", "สวสดครบ")],
)
def test_vowels_that_are_marks_are_heard(said, heard):
    basic = NORMALIZERS["basic"].load()
    assert basic(said) == said
    assert score("asr", [[said]], {"full": [heard]})["full"][0].value > 0


@pytest.mark.parametrize(
    ("text", "words"), [("Ich liebe dich ❤️", "ich liebe dich"), ("☺️happy", "happy"), ("1️⃣ eins", "1 eins")]
)
def test_marks_of_what_is_no_letter_are_no_words(text, words):
    assert NORMALIZERS["basic"].load()(text) == words


@pytest.mark.parametrize("name", ["basic", "english"])
@pytest.mark.parametrize(
    "emoji",
    ["👩\u200d💻", "👨\u200d👩\u200d👧", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"],
)
def test_joiners_and_tags_of_an_emoji_are_no_words(name, emoji):
    normalize = NORMALIZERS[name].load()
    assert normalize(f"hello {emoji} world") == "hello world"
    assert normalize(f"twenty {emoji} one") == normalize("twenty 😀 one")


@pytest.mark.parametrize("word", ["র\u200d\u09cdযাম", "ರ\u200d\u0ccdಕ", "می\u200cخواهم"])
def test_a_joiner_within_a_word_keeps_itself_and_the_marks_after_it(word):
    assert NORMALIZERS["basic"].load()(word) == word


@pytest.mark.parametrize("name", ["basic", "english"])
@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("co\u00adoperate", "cooperate"),
        ("hello\ufeff", "hello"),
        ("hello\u200b, world", "hello world"),
        ("twenty\u200b one", "twenty one"),
        ("\u2067שלום\u2069", "שלום"),
        ("שלום\u200f", "שלום"),
        ("سلام\u200c", "سلام"),
    ],
)
def test_what_is_invisible_makes_no_other_word(name, marked, plain):
    normalize = NORMALIZERS[name].load()
    assert normalize(marked) == normalize(plain)


def test_words_that_an_invisible_space_parts_are_two():
    assert NORMALIZERS["basic"].load()("ខ្ញុំ\u200bញ៉ាំ") == "ខ្ញុំ ញ៉ាំ"


def test_a_typographic_apostrophe_is_one():
    english = NORMALIZERS["english"].load()
    assert english("I don’t know") == english("I don't know") == "i do not know"


@pytest.mark.parametrize("text", ["Übergröße, déjà vu", "cafe\u0301 Zürich", "naïve façade"])
def test_marks_in_latin_text_are_part_of_their_letters(text):
    from whisper_normalizer.basic import BasicTextNormalizer

    assert NORMALIZERS["basic"].load()(text) == " ".join(BasicTextNormalizer()(text).split())


@pytest.mark.parametrize("name", NORMALIZERS)
@given(text=st.text(max_size=40))
@settings(max_examples=60)
def test_a_normaliser_leaves_single_spaces(name, text):
    found = NORMALIZERS[name].load()(text)
    assert found == " ".join(found.split())


def test_hypothesis_and_reference_are_both_normalised():
    arguments = ("qa", [["The Beatles."]], {"full": ["THE beatles!"]})
    assert score(*arguments)["full"][0].value == 1
    assert score(*arguments, normalizer="none")["full"][0].value == 0
