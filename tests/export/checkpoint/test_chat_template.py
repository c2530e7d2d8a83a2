"""A chat template is cut at build time: its ids are those of transformers, or a note names the reason."""

import json
import re

import pytest
from transformers import Qwen2AudioProcessor, WhisperFeatureExtractor

from conftest import tiny_tokenizer
from fastadasp.export.checkpoint.chat_template import with_chat_template
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.profiles.errors import CheckpointError
from fastadasp.runtime.artifact.prompt import AudioPlace, Prompt
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of

BASE = Prompt("<|audio_bos|>{audio}<|audio_eos|>{prompt}", AudioPlace("<|AUDIO|>"))
AUDIO = "Audio {{ count.value }}: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
PARTS = f"""\
{{% for part in message['content'] %}}
{{% if 'audio' in part or 'audio_url' in part or part['type'] == 'audio' %}}
{{% set count.value = count.value + 1 %}}
{AUDIO}\
{{% elif 'text' in part %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}<|im_end|>
"""
PUBLISHED = f"""\
{{% set count = namespace(value=0) %}}
{{% for message in messages %}}
{{% if loop.first and message['role'] != 'system' %}}
<|im_start|>system
You are a helpful assistant.<|im_end|>
{{% endif %}}
<|im_start|>{{{{ message['role'] }}}}
{{% if message['content'] is string %}}
{{{{ message['content'] }}}}<|im_end|>
{{% else %}}
{PARTS}\
{{% endif %}}
{{% endfor %}}
{{% if add_generation_prompt %}}
<|im_start|>assistant
{{% endif %}}
"""
"""Qwen2-Audio's: a default system text, numbered audio, texts as they are."""
WITHOUT_SYSTEM = """\
{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}
{{ raise_exception('no system') }}{% endif %}
<|im_start|>{{ message['role'] }} {% for part in message.content %}
{% generation %}{{ '<|AUDIO|>' if part.type == 'audio' else part.text }}{% endgeneration %}
{% endfor %}{% endfor %}<|im_end|>"""
TEXTS = ("hello", "{prompt} {audio} {{ x }} {% raw %}", "a\n\n b\t", "你好，世界 é", "", "<b> & 'it' \\n")


@pytest.fixture
def checkpoint(tmp_path):
    """A function that makes a folder with a template in one of its files."""

    def checkpoint(template, name="chat_template.jinja", **settings):
        (tmp_path / "config.json").write_text("{}", "utf-8")
        tiny_tokenizer().save_pretrained(tmp_path)
        path = tmp_path / name
        if path.suffix == ".jinja":
            path.write_text(template, "utf-8")
        else:
            content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
            path.write_text(json.dumps({**content, "chat_template": template, **settings}), "utf-8")
        return Checkpoint(tmp_path)

    return checkpoint


def conversation(prompt, system=None):
    user = {
        "role": "user",
        "content": [{"type": "audio", "audio_url": "x"}, {"type": "text", "text": prompt}],
    }
    return [*([{"role": "system", "content": system}] if system else []), user]


@pytest.mark.parametrize("template", [PUBLISHED, WITHOUT_SYSTEM], ids=["published", "without system"])
def test_ids_equal_those_of_transformers(checkpoint, template):
    folder = checkpoint(template).folder
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": "<|im_start|>"}))
    prompt, notes = with_chat_template(Checkpoint(folder), BASE)
    has_system = prompt.system_template is not None
    assert has_system == (template is PUBLISHED) == (notes == ())
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    extractor = WhisperFeatureExtractor(feature_size=128)
    processor = Qwen2AudioProcessor(extractor, tokenizer, chat_template=template)
    codec = PromptCodec(tokenizer_of((folder / "tokenizer.json").read_bytes(), "tokenizer.json"), prompt)
    (audio,) = tokenizer.encode("<|AUDIO|>", add_special_tokens=False)
    for text in TEXTS:
        for system in (None, *(text for text in TEXTS if text and has_system)):
            messages = conversation(text, system)
            found = codec.encode(text, system)
            expected = tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, return_dict=False
            )
            assert [*found.before.tolist(), audio, *found.after.tolist()] == expected
            whole = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            assert tokenizer.encode(whole, add_special_tokens=False) == expected


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json"]
)
def test_a_template_is_found_in_every_file(checkpoint, name):
    prompt, _ = with_chat_template(checkpoint(PUBLISHED, name), BASE)
    assert prompt.template == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "Audio 1: <|audio_bos|>{audio}<|audio_eos|>\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.system_template == prompt.template.replace("You are a helpful assistant.", "{system}")


def test_the_file_of_the_processor_counts_before_the_others(checkpoint):
    for name, template in (("tokenizer_config.json", "x"), ("chat_template.jinja", "x")):
        checkpoint(template, name)
    folder = checkpoint(PUBLISHED, "chat_template.json").folder
    assert with_chat_template(Checkpoint(folder), BASE)[0] != BASE
    (folder / "processor_config.json").write_text(json.dumps({"chat_template": "<|AUDIO|>"}))
    assert with_chat_template(Checkpoint(folder), BASE)[0] == BASE


def test_one_of_several_templates_is_the_default(checkpoint):
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": PUBLISHED}]
    assert with_chat_template(checkpoint(several, "tokenizer_config.json"), BASE)[0] != BASE
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: chat_template is .*of which one is"):
        with_chat_template(checkpoint(several[:1], "tokenizer_config.json"), BASE)


def test_without_a_template_the_base_form_stays(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert with_chat_template(Checkpoint(tmp_path), BASE) == (BASE, ())


ONE = "<|AUDIO|>{{ messages[-1].content[1].text }}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ONE.replace("text }}", "text | trim }}"), "changes texts"),
        (ONE.replace("text }}", "text | upper }}"), "writes the prompt 0 times"),
        (ONE.replace("text }}", "text | tojson }}"), "changes texts"),
        (ONE.replace("text }}", "text | e }}"), "changes texts"),
        (ONE.replace("text }}", "text | truncate(99) }}"), "changes texts"),
        (ONE.replace("text }}", "text.split('{')[0] }}"), "changes texts"),
        (ONE + "{% if messages[-1].content[1].text | length > 99 %} long{% endif %}", "changes texts"),
        (ONE + "{% if not messages[-1].content[1].text %} nothing{% endif %}", "changes texts, or depends"),
        (ONE * 2, "writes the place of the audio 2 times"),
        ("{{ messages[-1].content[1].text }}", "writes the place of the audio 0 times"),
        (ONE + " {prompt}", "its own text holds"),
        (ONE + "{{ strftime_now('%Y') }}", "it writes the date of the request"),
        ("{{ messages[0].content.strip() }}", "it refuses a question about audio"),
        ("{{ raise_exception('text alone') }}", r"it refuses .*text alone"),
    ],
)
def test_a_template_that_is_no_text_with_places_is_named_and_not_used(checkpoint, template, reason):
    prompt, (note,) = with_chat_template(checkpoint(template), BASE)
    assert prompt == BASE
    assert note.startswith(f"{checkpoint(template).folder}/chat_template.jinja: not used, because ")
    assert re.search(reason, note), note
    assert "a plain prompt goes into the base form" in note


def test_a_form_without_a_question_is_kept_by_itself(checkpoint):
    template = "<|AUDIO|>{% for part in messages[-1].content[1:] %} on {{ part.text }}{% else %}!{% endfor %}"
    prompt, (note,) = with_chat_template(checkpoint(template), BASE, has_bare_form=True)
    assert (prompt.template, prompt.bare_template) == ("{audio} on {prompt}", "{audio}!")
    assert "cannot have a system text" in note
    assert with_chat_template(checkpoint(template), BASE)[0].bare_template is None
    by_text = "<|AUDIO|>{% set x = messages[-1].content[1:] | map(attribute='text') | first %}{{ x or '' }}"
    assert with_chat_template(checkpoint(by_text), BASE, has_bare_form=True)[0].bare_template == "{audio}"
    refused = template.replace("!", "{{ raise_exception('ask') }}")
    prompt, (note,) = with_chat_template(checkpoint(refused), BASE, has_bare_form=True)
    assert prompt == BASE
    assert re.search(r"it refuses audio without a question \(.*ask.*\)", note)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{{ 'x' * 9999999999 }}", "needs more than 1024 MB"),
        ("{% for a in range(99999) %}{{ 'x' * 99 }}{% endfor %}", "or writes a longer text"),
        ("{{ ''.__class__.__mro__ }}", "reaches out of its sandbox"),
        ("{{ messages.append(1) }}", "reaches out of its sandbox"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError|cannot be rendered"),
        ("{% if %}", "line 1: "),
        ("{% import 'os' as os %}", "cannot be rendered|refuses"),
    ],
)
def test_a_hostile_template_is_refused_or_not_used(checkpoint, template, reason):
    try:
        prompt, (note,) = with_chat_template(checkpoint(template), BASE)
    except CheckpointError as error:
        note = str(error)
    else:
        assert prompt == BASE
    assert re.search(reason, note), note


@pytest.mark.parametrize("content", [3, ["x"], {"other": "x"}, "\ud800"])
def test_what_is_no_template_is_refused(checkpoint, content):
    with pytest.raises(CheckpointError, match=r"chat_template\.json: chat_template is .*text of a template"):
        with_chat_template(checkpoint(content, "chat_template.json"), BASE)
