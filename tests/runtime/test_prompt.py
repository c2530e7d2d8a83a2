"""Texts become ids by a record: templates, texts taken whole, places of the audio, ids of their own."""

from itertools import chain

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from conftest import tiny_tokenizer
from fastadasp.profiles.errors import ArtifactError, RequestError
from fastadasp.runtime.artifact.prompt import AudioPlace, Prompt
from fastadasp.runtime.prompt import PromptCodec, PromptIds, RawPrompt

ONE_MARK, TAGS = AudioPlace("<|AUDIO|>"), AudioPlace("<|audio_bos|>", "<|audio_eos|>")
BASE = Prompt("<|audio_bos|>{audio}<|audio_eos|>{prompt}", ONE_MARK)
CHAT = Prompt(
    "<|im_start|>user\n{audio}\n{prompt}<|im_end|>\n",
    TAGS,
    system_template="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{audio}\n{prompt}<|im_end|>\n",
    default_prompt="hello",
)
TEXTS = ("", "hello", "{system} {audio} {prompt} {0} {} {{x}}", "a\n\n\tb ", "你好，世界", "%s \\1 \\g<0> $x")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_tokenizer().backend_tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def ids_of(tokenizer):
    plain = Tokenizer.from_file(str(tokenizer))
    return lambda text: plain.encode(text, add_special_tokens=False).ids


@pytest.fixture
def encode(tokenizer):
    def encode(prompt, *args):
        found = PromptCodec(Tokenizer.from_file(str(tokenizer)), prompt).encode(*args)
        return found.before.tolist(), found.after.tolist()

    return encode


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("system", [text for text in TEXTS if text])
def test_texts_stand_in_their_places_and_are_not_searched_for_others(encode, ids_of, text, system):
    after = ids_of(f"\n{text}<|im_end|>\n")
    assert encode(CHAT, text) == (ids_of("<|im_start|>user\n"), after)
    before = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    assert encode(CHAT, text, system) == (ids_of(before), after)


def test_a_request_without_a_prompt_takes_the_default_and_an_empty_one_does_not(encode):
    assert encode(CHAT) == encode(CHAT, "hello") != encode(CHAT, "")
    assert encode(BASE) == encode(BASE, RawPrompt("<|audio_bos|><|AUDIO|><|audio_eos|>"))


def test_a_text_that_names_the_place_of_the_audio_is_taken_whole(encode, ids_of):
    for prompt in ("user <|AUDIO|> {prompt}", RawPrompt("user <|AUDIO|> {prompt}")):
        assert encode(BASE, prompt) == (ids_of("user "), ids_of(" {prompt}"))


@pytest.mark.parametrize("between", ["", "assets/a b.flac", "你好\n.wav", "{audio}"])
def test_anything_may_stand_between_the_tags_of_the_audio(encode, ids_of, between):
    text = f"Audio 1:<|audio_bos|>{between}<|audio_eos|>\nhello"
    assert encode(CHAT, text) == encode(CHAT, RawPrompt(text)) == (ids_of("Audio 1:"), ids_of("\nhello"))


@pytest.mark.parametrize(
    ("prompt", "text", "fault"),
    [
        (BASE, RawPrompt("hello"), r"<\|AUDIO\|> stands 0 times"),
        (BASE, "a<|AUDIO|>b<|AUDIO|>c", r"<\|AUDIO\|> stands 2 times"),
        (BASE, "a<|AUDIO|>", r"nothing follows <\|AUDIO\|>"),
        (CHAT, RawPrompt("hello"), r"<\|audio_bos\|> stands 0 times"),
        (CHAT, "<|audio_bos|>hello", r"<\|audio_eos\|> stands 0 times"),
        (CHAT, "hello<|audio_eos|>", r"<\|audio_bos\|> stands 0 times"),
        (CHAT, "<|audio_eos|>a<|audio_bos|>b", r"<\|audio_eos\|> stands before <\|audio_bos\|>"),
        (CHAT, "<|audio_bos|><|audio_eos|>x<|audio_bos|><|audio_eos|>y", r"<\|audio_bos\|> stands 2 times"),
        (CHAT, "<|audio_bos|>a<|audio_eos|>b<|audio_eos|>c", r"<\|audio_eos\|> stands 2 times"),
        (Prompt("{audio}{prompt}", None), RawPrompt("hello"), "takes no text whole"),
    ],
)
def test_a_text_with_other_places_than_one_is_refused(encode, prompt, text, fault):
    with pytest.raises(RequestError, match=fault):
        encode(prompt, text)


@pytest.mark.parametrize(
    ("prompt", "text", "system", "fault"),
    [
        (
            *(BASE, "hello", "be brief"),
            r"system 'be brief': the template of this model has no place for it; leave it out, or write the "
            r"whole prompt yourself, with <\|AUDIO\|> in it$",
        ),
        (Prompt("{audio}{prompt}", None), "hello", "be brief", r"no place for it; leave it out$"),
        (CHAT, "hello", "", "system is empty"),
        (CHAT, "hello", "<|audio_bos|>", "it names the place of the audio"),
        (CHAT, RawPrompt("<|audio_bos|><|audio_eos|>x"), "be brief", "taken whole, so there is no place"),
    ],
)
def test_a_system_text_without_a_place_is_refused(encode, prompt, text, system, fault):
    with pytest.raises(RequestError, match=fault):
        encode(prompt, text, system)


@pytest.mark.parametrize("text", [None, b"hello", 3])
def test_a_raw_prompt_is_a_text(text):
    with pytest.raises(RequestError, match=r"prompt is .*: give a text"):
        RawPrompt(text)


def test_ids_of_their_own_stand_before_all_after_the_audio_and_beside_the_prompt(tokenizer, ids_of):
    own = Prompt(
        "hello {audio} world {prompt}",
        None,
        first_ids=(1,),
        first_id_after_audio=3,
        adapter_template='"{prompt}"',
    )
    found = PromptCodec(Tokenizer.from_file(str(tokenizer)), own).encode("the {prompt}")
    assert found.before.tolist() == [1, *ids_of("hello ")]
    assert found.after.tolist() == [3, *ids_of(" world the {prompt}")[1:]]
    assert found.adapter is not None
    assert found.adapter.tolist() == ids_of('"the {prompt}"')


TIMED = Prompt("[MARK s] {audio} {prompt}", ONE_MARK, bare_template="{audio} all MARK", seconds_mark="MARK")


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("of MARK", "[4.00 s] ", " of MARK"),
        ("", "", " all 4.00"),
        (None, "", " all 4.00"),
        ("MARK <|AUDIO|> of MARK", "4.00 ", " of 4.00"),
    ],
)
def test_a_prompt_says_how_long_its_audio_is(tokenizer, ids_of, text, before, after):
    """Where the template has the mark, or a text that is taken whole; one without a text may be another."""
    found = PromptCodec(Tokenizer.from_file(str(tokenizer)), TIMED).encode(text)
    about = found.about(3.999)
    assert (about.before.tolist(), about.after.tolist()) == (ids_of(before), ids_of(after))
    unknown = [*found.before.tolist(), *found.after.tolist()]
    assert unknown == [*ids_of(before.replace("4.00", "9999.99")), *ids_of(after.replace("4.00", "9999.99"))]


def test_other_prompts_are_the_same_whatever_the_audio(tokenizer):
    found = PromptCodec(Tokenizer.from_file(str(tokenizer)), BASE).encode("hello")
    assert found.about(3.0) is found


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"template": "{prompt}"}, r"template holds \{audio\} 0 times, 1 expected"),
        ({"template": "{audio}{prompt}{prompt}"}, r"template holds \{prompt\} 2 times"),
        ({"template": "{audio}{system}{prompt}"}, r"template holds \{system\} 1 times, 0 expected"),
        ({"system_template": "{audio}{prompt}"}, r"system_template holds \{system\} 0 times, 1 expected"),
        ({"bare_template": "{audio}{prompt}"}, r"bare_template holds \{prompt\} 1 times, 0 expected"),
        ({"seconds_mark": ""}, "seconds_mark is empty"),
        ({"adapter_template": "{prompt}", "audio_place": ONE_MARK}, "no part for the adapter_template"),
    ],
)
def test_a_record_with_other_places_is_refused(changes, fault):
    with pytest.raises(ArtifactError, match=fault):
        Prompt(**{"template": "{audio}{prompt}", "audio_place": None, **changes})


def test_ids_are_compared_as_objects():
    ids = PromptIds([1, 2], [3])
    assert ids == ids
    assert ids != PromptIds([1, 2], [3])


PIECES = {"▁hi": b" hi", "o": b"o", "</s>": b""}  # what they stand for; the last one is special
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def codec_of_bytes(*, falls_back: bool = True):
    """With tokens for single bytes, as SentencePiece models have them, and the decoder that they get."""
    vocabulary = {text: i for i, text in enumerate(["<unk>", *PIECES, *BYTES])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps if falls_back else [steps[0], *steps[2:]])
    return PromptCodec(tokenizer, BASE), vocabulary


def spelled(text: str) -> list[str]:
    return [BYTES[byte] for byte in text.encode()]


SPELLED = st.sampled_from(["你", "好", "é", "😀", "▁", "\N{REPLACEMENT CHARACTER}", " ", "a"]).map(spelled)


@given(st.lists(SPELLED | st.sampled_from([*PIECES, *BYTES]).map(lambda token: [token]), max_size=8))
@example([["▁hi"], spelled("你好世界")])
@example([spelled("😀"), ["</s>"], spelled("😀")[:2], ["o"], spelled("é")])
def test_whole_characters_of_a_text_in_bytes_stay_wherever_it_is_cut_and_pieces_join_to_it(parts):
    codec, vocabulary = codec_of_bytes()
    tokens = list(chain(*parts))
    ids = [vocabulary[token] for token in tokens]
    for end in range(len(ids) + 1):
        said = b"".join(PIECES[t] if t in PIECES else bytes([BYTES.index(t)]) for t in tokens[:end])
        assert codec.decode(ids[:end]) == said.decode("utf-8", "replace").strip()
        assert "".join(codec.stream(ids[:end])) == codec.decode(ids[:end])


def test_what_looks_like_a_byte_stays_as_it_is_where_it_is_none():
    codec, vocabulary = codec_of_bytes(falls_back=False)
    codec._tokenizer.add_tokens(["\N{REPLACEMENT CHARACTER}"])
    ids = [vocabulary["<0xE4>"], len(vocabulary)]
    assert codec.decode(ids) == "".join(codec.stream(ids)) == "<0xE4>\N{REPLACEMENT CHARACTER}"
