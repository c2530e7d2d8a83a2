"""What the voices say: plain sentences of WordNet, and requests with numbers, times and names of days."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from training.vocabulary import DAYS, MONTHS, TENS, UNITS, below_hundred

Draw = np.random.Generator

FEWEST, MOST = 3, 12  # words
LONGEST_WORD = 14  # letters
ENOUGH = 20  # sentences that hold a word: below, it is rare
RARE_SHARE = 0.15  # of the sentences from WordNet, those that may hold a rare word
REQUEST_SHARE = 0.12  # of all sentences
ONE_LETTER = {"a", "i", "o"}
UNFIT = re.compile(r"offensive|obscene|disparag|derogat|\bslurs?\b|vulgar|taboo")  # what a gloss warns of
SPELLED = re.compile(r"[A-Za-z',.!?\- ]+")

REQUESTS = (
    "please {do} the {thing}",
    "can you {do} my {thing} on {day}",
    "i would like to {do} {number} {things}",
    "{do} the {thing} at {time}",
    "the {thing} is {state} until {time}",
    "your {thing} is {state}",
    "there are {number} {things} in the {place}",
    "the meeting is on {day} {month} {ordinal}",
    "call me back at {time} on {day}",
    "we have {number} {things} for you",
    "to {do} your {thing} press {digit}",
    "sorry the {thing} is {state} please try again",
    "my number is {digits}",
    "it costs {number} dollars and {small} cents",
    "turn {switch} the {thing} in the {place}",
    "where is the {thing} for the {place}",
    "do not {do} the {thing} before {time}",
    "the code for the {place} is {digits}",
    "thank you for waiting the {thing} is now {state}",
    "if the {thing} is {state} then {do} it",
)
FILLERS = {
    "do": "open close change cancel check confirm copy delete enter find fix hear hold move order pay "
    "play print record remove repeat save send show start stop update use",
    "thing": "account address alarm bill book box button call camera car card coffee computer door email "
    "file flight heater key lamp letter light line list meeting menu message music number office "
    "order package password payment phone picture question radio recording report room screen "
    "service ticket train window",
    "things": "books calls cards cars chairs doors files friends keys letters lines messages minutes orders "
    "pages people pictures questions rooms tickets",
    "place": "airport bank building city garage garden hall hospital hotel house kitchen library office "
    "school shop station store street town",
    "state": "available broken busy closed correct empty full gone late locked lost new old open paid "
    "ready safe unavailable wrong",
    "switch": "on off",
    "day": " ".join((*DAYS, "today", "tomorrow")),
    "month": " ".join(MONTHS),
    "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth",
}


def normalised(text: str) -> str:
    """The words of a text as a transcript has them: lower case, without punctuation."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " ")).split())


def sentences(wordnet: Iterable[Path], seed: int, share: float = REQUEST_SHARE) -> list[str]:
    """All sentences in a random order, none of them twice."""
    draw = np.random.default_rng(seed)
    plain = few_rare(sorted({found for path in wordnet for found in _of_wordnet(path)}), draw)
    made = {request(draw) for _ in range(round(len(plain) * share / (1 - share)))}
    whole = sorted({*plain, *made})
    return [whole[i] for i in draw.permutation(len(whole))]


def few_rare(texts: list[str], draw: Draw) -> list[str]:
    """All texts of common words, and as many others as `RARE_SHARE` allows."""
    counts = Counter(word for text in texts for word in set(normalised(text).split()))
    is_rare = [any(counts[word] < ENOUGH for word in normalised(text).split()) for text in texts]
    common = [text for text, rare in zip(texts, is_rare, strict=True) if not rare]
    others = [text for text, rare in zip(texts, is_rare, strict=True) if rare]
    kept = min(len(others), round(len(common) * RARE_SHARE / (1 - RARE_SHARE)))
    return common + [others[i] for i in draw.permutation(len(others))[:kept]]


def request(draw: Draw) -> str:
    """A sentence as people say it to a machine, or a machine to people."""

    def fill(place: re.Match[str]) -> str:
        name = place[1]
        if name in FILLERS:
            return str(draw.choice(FILLERS[name].split()))
        return " ".join(_spoken(name, draw))

    return re.sub(r"{(\w+)}", fill, str(draw.choice(REQUESTS)))


def _spoken(name: str, draw: Draw) -> list[str]:
    """Numbers in words: a digit, some digits, one below a hundred, a larger one, a time."""
    small = below_hundred(int(draw.integers(1, 100)))
    if name == "digit":
        return [UNITS[int(draw.integers(10))]]
    if name == "digits":
        return [UNITS[i] for i in draw.integers(0, 10, int(draw.integers(3, 8)))]
    if name == "time":
        hour = below_hundred(int(draw.integers(1, 13)))
        return [*hour, *((["o'clock"], [TENS[int(draw.integers(0, 4))]], [])[int(draw.integers(3))])]
    if name == "number" and draw.random() < 0.4:
        return [UNITS[int(draw.integers(1, 10))], str(draw.choice(["hundred", "thousand"])), *small]
    return small


def _of_wordnet(path: Path) -> Iterator[str]:
    """Definitions and examples of one file that are fit to be spoken."""
    for line in path.read_text("utf-8", errors="replace").splitlines():
        if line.startswith("  ") or "|" not in line:
            continue  # the licence; no gloss
        if UNFIT.search(line):
            continue
        gloss = line.split("|", 1)[1]
        examples = re.findall(r'"([^"]+)"', gloss)
        definition = re.sub(r"\([^)]*\)", " ", gloss.split('"')[0]).split(";")[0]
        for text in (definition, *examples):
            if (found := _fit(text)) is not None:
                yield found


def _fit(text: str) -> str | None:
    """A sentence without blanks and quotes around it; None where it is too long or no plain text."""
    text = " ".join(re.sub(r"[;:]", ",", text).split()).strip(" -\"'`,")
    words = normalised(text).split()
    plain = SPELLED.fullmatch(text) and not re.search(r"[A-Z]{2}", text)
    sound = all(len(word) <= LONGEST_WORD and (len(word) > 1 or word in ONE_LETTER) for word in words)
    return text if plain and sound and FEWEST <= len(words) <= MOST else None
