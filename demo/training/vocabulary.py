"""What the demo model can read and write: words, their translations, the tasks and the tokenizer."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

UNITS, TEENS, TENS, SCALES, DAYS, MONTHS = (
    tuple(line.split())
    for line in (
        "zero one two three four five six seven eight nine",
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "hundred thousand",
        "sunday monday tuesday wednesday thursday friday saturday",
        "january february march april may june july august september october november december",
    )
)
WORDS = UNITS + TEENS + TENS + SCALES + DAYS + MONTHS

FRENCH, GERMAN = (
    dict(zip(WORDS, text.split(), strict=True))
    for text in (
        "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize "
        "dix-sept dix-huit dix-neuf vingt trente quarante cinquante soixante soixante-dix quatre-vingts "
        "quatre-vingt-dix cent mille dimanche lundi mardi mercredi jeudi vendredi samedi janvier février "
        "mars avril mai juin juillet août septembre octobre novembre décembre",
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn "
        "sechzehn siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig "
        "neunzig hundert tausend sonntag montag dienstag mittwoch donnerstag freitag samstag januar februar "
        "märz april mai juni juli august september oktober november dezember",
    )
)

STYLES = ("neutral", "happy", "sad", "whispering")
TOPICS = ("digits", "numbers", "dates", "words")
ROOMS = ("quiet", "noisy")
CAPTION = "a {style} voice reads {topic} in a {room} room"

PAD, EOS, BOS, AUDIO_BOS, AUDIO, AUDIO_EOS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<audio_bos>",
    "<AUDIO>",
    "<audio_eos>",
)
ASR, TO_FRENCH, TO_GERMAN, STYLE, DESCRIBE, QUESTION = "<asr>", "<fr>", "<de>", "<style>", "<caption>", "<qa>"
SPECIAL = (PAD, EOS, BOS, AUDIO_BOS, AUDIO, AUDIO_EOS, ASR, TO_FRENCH, TO_GERMAN, STYLE, DESCRIBE, QUESTION)
DAY, MONTH, AFTER = "day", "month", "after"  # questions: which day, which month, which word after another one

_caption_words = CAPTION.replace("{", "").replace("}", "").split()
TOKENS = tuple(
    dict.fromkeys(
        (
            *SPECIAL,
            *WORDS,
            *FRENCH.values(),
            *GERMAN.values(),
            *STYLES,
            *TOPICS,
            *ROOMS,
            DAY,
            MONTH,
            AFTER,
            *(word for word in _caption_words if word not in ("style", "topic", "room")),
            "room",
        )
    )
)
ID = {token: i for i, token in enumerate(TOKENS)}


def below_hundred(value: int) -> list[str]:
    """The words of 1 to 99."""
    if value < 20:
        return [(UNITS + TEENS)[value]]
    tens, units = divmod(value, 10)
    return [TENS[tens - 2]] + ([UNITS[units]] if units else [])


def ids(text: str) -> list[int]:
    """Token ids of words and special tokens with spaces between them."""
    return [ID[word] for word in text.split()]


def caption(style: str, topic: str, room: str) -> str:
    """The one sentence that describes a clip."""
    return CAPTION.format(style=style, topic=topic, room=room)


def tokenizer() -> Tokenizer:
    """A token a word."""
    made = Tokenizer(WordLevel(ID, unk_token=PAD))
    made.pre_tokenizer = WhitespaceSplit()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return made
