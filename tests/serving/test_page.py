"""The page in Chromium: a recording is heard, answered under several profiles, and compared."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from chromium import PHONE, WIDE, chromium, needs_chromium, requests, show, view
from demo_files import DEMO
from server_process import serving

from .scripted_server import HOSTILE, SECONDS, ScriptedServer, scripted_server

pytestmark = needs_chromium

RATE = 16000
KEY = "0123456789abcdef"
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PLAYED = ("--autoplay-policy=no-user-gesture-required", "--mute-audio")
ELSEWHERE = "elsewhere.test"
HOSTS = (f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1", "--no-proxy-server")
OWN = ("data:", "blob:")
SIDEWAYS = "return document.documentElement.scrollWidth - innerWidth"
OUTSIDE = """
return [...document.querySelectorAll('main *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1) && !one.closest('.unseen');
}).map(one => one.outerHTML.slice(0, 80));
"""
SLOWLY_READ = """
const [name] = arguments, read = Blob.prototype.arrayBuffer;
Blob.prototype.arrayBuffer = async function () {
  const bytes = await read.call(this), same = bytes.slice();
  if (this.name !== name) return bytes;
  const done = await new Promise(go => window.read = go);
  new OfflineAudioContext(1, 1, 16000).decodeAudioData(same).then(() => setTimeout(done));
  return bytes;
};
"""
RING = """
const focused = document.activeElement;
return getComputedStyle(focused.closest('.chip, .wave') ?? focused).outlineStyle;
"""
CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const rgb = colours => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => value / 255);
};
const light = colours => {
  const [r, g, b] = rgb(colours).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const weak = [];
for (const one of document.querySelectorAll('main *, header *, footer *')) {
  const text = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!text || !one.getClientRects().length || one.closest('button:disabled, .unseen')) continue;
  const behind = [], style = getComputedStyle;
  for (let place = one; place; place = place.parentElement) behind.unshift(style(place).backgroundColor);
  const back = light(behind), front = light([...behind, style(one).color]);
  const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
  if (ratio < 4.5) weak.push(`${one.className} ${ratio.toFixed(2)} ${one.textContent.slice(0, 30)}`);
}
return weak;
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of the demo with a pause between them: as long as the scripted answers say."""
    clips = [soundfile.read(DEMO / "clips" / f"{name}.flac")[0] for name in ("dates-01", "digits-02")]
    samples = np.zeros(round(SECONDS * RATE))
    for start, clip in zip((0, 3 * RATE), clips, strict=True):
        samples[start : start + len(clip)] = clip
    path = tmp_path_factory.mktemp("audio") / "friday call.flac"
    soundfile.write(path, samples, RATE)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, recording: Path) -> Iterator[Any]:
    heard = recording.with_suffix(".wav")
    soundfile.write(heard, soundfile.read(recording)[0], RATE)
    capture = f"--use-file-for-fake-audio-capture={heard}"
    with chromium(tmp_path_factory.mktemp("browser"), *MICROPHONE, *PLAYED, *HOSTS, capture) as driver:
        driver.set_script_timeout(20)
        yield driver


@pytest.fixture(scope="module")
def running_server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def server(running_server: ScriptedServer) -> ScriptedServer:
    running_server.reset()
    return running_server


@pytest.fixture
def page(browser: Any, server: ScriptedServer) -> Iterator[Page]:
    """The open page. At the end: it has asked nobody else, and the console says no more than was foreseen."""
    found = Page(browser, server)
    found.open()
    yield found
    server.released.set()
    assert all(url.startswith((server.address, *OWN)) for url in requests(browser))
    complaints = [entry["message"] for entry in browser.get_log("browser")]
    assert [one for one in complaints if not any(f"status of {code}" in one for code in found.foreseen)] == []


class Page:
    """What a person does with the page, and sees of it."""

    def __init__(self, browser: Any, server: ScriptedServer) -> None:
        self.browser, self.server = browser, server
        self.foreseen: tuple[int, ...] = ()  # statuses that the console may tell of

    def open(self, width: int = WIDE, scheme: str = "light") -> None:
        show(self.browser, self.server.address, width, scheme)
        self.browser.execute_script("sessionStorage.clear()")
        self.until(lambda: self.all(".chip") or self.text("#profiles-note") != "Asking the server …")

    def until(self, condition: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: condition())

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return " ".join(str(self.one(selector).text).split())

    def script(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def choose(self, path: Path) -> None:
        self.one("#file").send_keys(str(path))
        self.until(lambda: self.text("#clip-name") == path.name and self.one("#run").is_enabled())

    def tick(self, *profiles: str) -> None:
        for chip in self.all(".chip"):
            if (chip.text in profiles) != chip.find_element("css selector", "input").is_selected():
                chip.click()

    def prompt(self, text: str) -> None:
        self.script("document.querySelector('details').open = true")
        self.one("#prompt").clear()
        self.one("#prompt").send_keys(text)

    def run(self) -> None:
        self.one("#run").click()

    def states(self) -> list[str]:
        return [card.get_attribute("data-state") for card in self.all("article")]

    def ended(self) -> list[str]:
        self.until(lambda: self.all("article") and self.one("#run").is_displayed())
        return self.states()

    def foot(self, label: str) -> Any:
        return next(one for one in self.all(".foot button") if one.text == label)

    def figures(self, card: Any) -> dict[str, str]:
        names = [one.text for one in card.find_elements("css selector", ".facts dt")]
        values = [one.text for one in card.find_elements("css selector", ".facts dd")]
        return dict(zip(names, values, strict=True))


def test_a_chosen_file_is_shown_before_anything_is_asked(page, recording):
    assert not page.one("#run").is_enabled()
    page.choose(recording)
    assert page.text("#clip-facts").startswith("7.3 s ·")
    drawn = """
    const canvas = document.querySelector('canvas');
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"""
    page.until(lambda: page.script(drawn))
    assert page.server.asked == []


def test_a_file_can_be_dropped_anywhere_on_the_page(page, recording):
    page.script("""
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(9)], 'dropped.wav'));
    const dropped = {dataTransfer: files, bubbles: true, cancelable: true};
    document.body.dispatchEvent(new DragEvent('drop', dropped));
    """)
    page.until(lambda: page.text("#clip-name") == "dropped.wav")
    assert "cannot play" in page.text("#clip-note")


def test_of_two_files_the_one_that_was_chosen_last_is_taken(page, recording):
    later = recording.with_suffix(".wav")
    page.script(SLOWLY_READ, recording.name)
    page.one("#file").send_keys(str(recording))
    page.until(lambda: page.script("return Boolean(window.read)"))
    assert not page.one("#run").is_enabled()
    assert page.text("#hint") == "The recording is being read."
    page.choose(later)
    page.run()
    assert page.ended() == ["done"]
    page.browser.execute_async_script("window.read(arguments[0])")
    assert page.text("#clip-name") == later.name
    assert page.states() == ["done"]
    assert page.one("#run").is_enabled()


def test_a_file_is_sent_by_a_browser_that_decodes_nothing(page, recording):
    page.script("window.OfflineAudioContext = function () { throw new DOMException('no'); }")
    page.choose(recording)
    page.run()
    assert page.ended() == ["done"]


def test_what_is_asked_is_what_was_set(page, recording):
    from selenium.webdriver.support.ui import Select

    page.choose(recording)
    page.tick("half")
    assert page.text("#arrival") == "Text arrives word by word."
    Select(page.one("#beams")).select_by_value("4")
    assert page.text("#arrival") == "Text arrives segment by segment."
    page.one("#segments").click()
    assert "when the search has ended" in page.text("#arrival")
    page.prompt("what is said?")
    page.run()
    assert page.ended() == ["done"]
    (asked,) = page.server.asked
    assert asked["file"] == recording.read_bytes()
    assert (asked["name"], asked["model"], asked["num_beams"]) == (recording.name, "demo:half", "4")
    assert (asked["prompt"], asked["stream"]) == ("what is said?", "true")
    assert "chunking_strategy" not in asked


def test_text_is_there_before_the_answer_has_ended(page, recording):
    page.choose(recording)
    page.prompt("hold")
    page.run()
    page.until(lambda: page.all(".segments li"))
    assert page.states() == ["answering"]
    assert "Friday, March six." in page.text("article")
    assert not page.all(".facts dd")
    page.until(
        lambda: "Friday, March six." in page.script("return document.getElementById('said').textContent")
    )
    page.server.released.set()
    assert page.ended() == ["done"]
    assert "full has answered" in page.script("return document.getElementById('said').textContent")


def test_an_answer_says_how_long_it_took_and_who_gave_it(page, recording):
    page.choose(recording)
    page.run()
    page.ended()
    found = page.figures(page.one("article"))
    assert found["audio"] == "7.25 s"
    assert found["answered by"] == "full"
    assert found["speed"].endswith("× real time")
    assert found["first text"].endswith("s")
    assert found["whole answer"] == page.text(".time")


def test_a_segment_plays_from_where_it_begins_and_is_marked_while_it_is_heard(page, recording):
    page.choose(recording)
    page.tick("full", "half")
    page.run()
    page.ended()
    page.script("document.getElementById('audio').playbackRate = 0.1")  # there is time to look
    page.all(".segments button")[1].click()
    page.until(lambda: page.all("[aria-current=true]"))
    assert page.script("return document.getElementById('audio').currentTime") >= 3
    assert [one.text.split("\n")[-1] for one in page.all("[aria-current=true]")] == [
        "six five two",
        "six nine two",
    ]
    page.one("#play").click()
    page.until(lambda: not page.all("[aria-current=true]"))
    assert page.script("return document.getElementById('audio').paused")


def test_profiles_answer_in_turn_and_are_compared_with_the_first(page, recording):
    page.choose(recording)
    page.tick("full", "half")
    assert page.text("#run") == "Compare 2 profiles"
    page.run()
    assert page.ended() == ["done", "done"]
    full, half = page.all("article")
    assert [one.text for one in half.find_elements("css selector", "mark")] == ["nine"]
    assert half.find_element("css selector", ".verdict").text == "1 word unlike full, of 6"
    assert half.find_element("css selector", ".badge").is_displayed()
    assert not full.find_element("css selector", ".badge").is_displayed()
    widths = [card.find_element("css selector", ".fill").size["width"] for card in (full, half)]
    assert max(widths) == page.one(".track").size["width"]  # one scale: the slower fills it


def test_asking_again_replaces_an_answer_and_other_beams_stand_beside_it(page, recording):
    from selenium.webdriver.support.ui import Select

    page.choose(recording)
    page.run()
    page.ended()
    page.run()
    assert page.ended() == ["done"]
    Select(page.one("#beams")).select_by_value("2")
    page.run()
    assert page.ended() == ["done", "done"]
    assert page.text("article:last-child .verdict") == "Word for word as full"
    page.foot("Again").click()
    assert page.ended() == ["done", "done"]
    assert len(page.server.asked) == 4
    assert "fastest of 3" in page.figures(page.one("article"))
    assert "fastest of 2" not in page.figures(page.all("article")[1])
    page.foot("Remove").click()
    assert page.states() == ["done"]


def test_cancel_ends_the_request_and_keeps_what_has_arrived(page, recording):
    page.choose(recording)
    page.tick("full", "half")
    page.prompt("hold")
    page.run()
    page.until(lambda: page.all(".segments li"))
    assert page.states() == ["answering", "waiting"]
    page.one("#cancel").click()
    assert page.ended() == ["cancelled", "cancelled"]
    page.until(lambda: page.server.left == ["full"])
    assert "Friday, March six." in page.text("article")
    page.server.released.set()
    page.foot("Again").click()
    assert page.ended() == ["done", "cancelled"]


def test_another_recording_ends_what_is_under_way(page, recording):
    page.choose(recording)
    page.prompt("hold")
    page.run()
    page.until(lambda: page.all(".segments li"))
    page.choose(recording.with_suffix(".wav"))
    page.until(lambda: page.server.left == ["full"])
    assert page.all("article") == []
    page.server.released.set()
    page.run()
    assert page.ended() == ["done"]


@pytest.mark.parametrize(
    ("prompt", "status", "told"),
    [
        ("busy", 503, "The server is busy. 8 requests wait already. It asks to wait 7 seconds."),
        ("broken", 200, "The server failed. a worker has died: try again."),
        ("late", 200, "The request took too long. the deadline of 2 s has passed."),
        ("damaged", 200, "The server cannot take this request. the audio ends at 3 s of 7 s."),
        ("crowded", 200, "The server is busy. 8 requests wait already."),
        ("cut", 200, "The connection ended before the answer. Try again; what had arrived is kept above."),
    ],
)
def test_a_fault_is_told_in_words_and_the_request_can_be_made_again(page, recording, prompt, status, told):
    page.foreseen = (status,)
    page.choose(recording)
    page.prompt(prompt)
    page.run()
    assert page.ended() == ["failed"]
    assert page.text(".fault") == told
    page.foot("Again").click()
    assert page.ended() == ["failed"]
    assert len(page.server.asked) == 2


def test_a_file_that_the_server_cannot_read_is_sent_as_wav_if_asked_for(page, recording):
    page.foreseen = (400,)
    page.choose(recording)
    page.prompt("wav")
    page.run()
    assert page.ended() == ["failed"]
    assert "The server cannot take this request. no audio that this server reads" in page.text(".fault")
    page.foot("Send as WAV").click()
    assert page.ended() == ["done"]
    samples, rate = soundfile.read(io.BytesIO(page.server.asked[-1]["file"]))
    original = soundfile.read(recording)[0]
    assert rate == RATE
    assert len(samples) == len(original)
    assert np.abs(samples - original).max() < 1e-3
    assert page.server.asked[-1]["name"] == "friday call.wav"


def test_a_key_is_asked_for_only_where_the_server_wants_one(page, recording):
    assert not page.one("#key-field").is_displayed()
    page.server.key, page.foreseen = "secret", (401,)
    page.choose(recording)
    page.run()
    assert page.ended() == ["failed"]
    assert "This server wants an API key" in page.text(".fault")
    page.one("#key").send_keys("wrong")
    page.one("#use-key").click()
    page.until(lambda: len(page.server.asked) == 2 and page.ended() == ["failed"])
    page.one("#key").clear()
    page.one("#key").send_keys("secret\n")
    page.until(lambda: page.states() == ["done"])
    assert page.script("return [localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]


def test_the_page_opens_without_a_key_and_asks_for_one(page):
    page.server.key, page.foreseen = "secret", (401,)
    page.open()
    page.until(lambda: page.one("#key-field").is_displayed())
    page.one("#key").send_keys("secret\n")
    page.until(lambda: [chip.text for chip in page.all(".chip")] == ["full", "half", "other"])


def test_what_is_recorded_is_sent_as_wav_that_every_server_reads(page):
    page.one("#record").click()
    page.until(lambda: page.text("#record-label") >= "Stop · 0:01.5")
    assert not page.one("#run").is_enabled()
    page.one("#record").click()
    page.until(lambda: page.one("#run").is_enabled())
    page.run()
    assert page.ended() == ["done"]
    samples, rate = soundfile.read(io.BytesIO(page.server.asked[0]["file"]))
    assert (rate, samples.ndim) == (RATE, 1)
    assert 1 < len(samples) / rate < 20
    assert np.abs(samples).max() > 0.01
    assert page.server.asked[0]["name"].startswith("recording-")


def test_a_second_click_while_the_microphone_is_asked_for_records_nothing_twice(page):
    page.script("""
    const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
    window.streams = [];
    devices.getUserMedia = async wanted => (streams.push(await ask(wanted)), streams.at(-1));
    for (let click = 0; click < 2; click++) document.getElementById('record').click();
    """)
    page.until(lambda: page.text("#record-label") >= "Stop · 0:00.5")
    page.one("#record").click()
    page.until(lambda: page.one("#run").is_enabled())
    tracks = "return streams.flatMap(stream => stream.getTracks()).map(track => track.readyState)"
    assert page.script(tracks) == ["ended"]


@pytest.mark.parametrize(("host", "lent"), [("127.0.0.1", True), (ELSEWHERE, False)])
def test_text_can_be_copied_where_the_browser_lends_its_clipboard(browser, server, recording, host, lent):
    page = Page(browser, replace(server, address=server.address.replace("127.0.0.1", host)))
    page.open()
    page.choose(recording)
    page.run()
    assert page.ended() == ["done"]
    assert ("Copy" in [one.text for one in page.all(".foot button")]) is lent
    assert page.foot("TXT")


def test_text_of_the_server_is_never_markup(page, recording):
    page.choose(recording)
    page.tick("other")
    page.run()
    page.ended()
    assert page.text(".words") == HOSTILE
    assert page.script("return window.ran") is None
    assert page.all("article img, article b") == []


def test_the_page_works_by_keyboard_alone(page, recording):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        ActionChains(page.browser).send_keys(*keys).perform()

    def reach(selector: str) -> None:
        for _ in range(40):
            press(Keys.TAB)
            if page.script("return document.activeElement.matches(arguments[0])", selector):
                assert page.script(RING) == "solid"
                return
        raise AssertionError(f"{selector} is not reached by the tabulator")

    reach("#drop")
    page.script("document.getElementById('file').click = () => { window.chosen = true }")
    press(Keys.ENTER)
    assert page.script("return window.chosen")
    page.choose(recording)
    page.script("document.activeElement.blur()")
    reach("#seek")
    press(Keys.ARROW_RIGHT)
    page.until(lambda: page.text("#clock").startswith("0:00.1"))
    reach(".chip:nth-of-type(2) input")
    press(Keys.SPACE)
    reach("#beams")
    reach("#run")
    press(Keys.ENTER)
    assert page.ended() == ["done", "done"]
    reach("article:last-child .segments li:last-child button")
    press(Keys.ENTER)
    page.until(lambda: page.all("[aria-current=true]"))


def test_every_control_has_a_name(page, recording):
    page.choose(recording)
    page.run()
    page.ended()
    nodes = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    wanted = {"button", "checkbox", "textbox", "combobox", "slider"}
    controls = [node for node in nodes if node.get("role", {}).get("value") in wanted]
    assert len(controls) > 10
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


@pytest.mark.parametrize("width", [WIDE, 800, PHONE])
def test_the_page_never_scrolls_sideways(page, recording, width):
    page.foreseen = (503,)
    page.open(width)
    assert page.script(SIDEWAYS) <= 0
    page.choose(recording)
    page.tick("full", "half", "other")
    page.run()
    page.ended()
    page.prompt("busy")
    page.run()
    page.ended()
    page.script("document.getElementById('key-field').hidden = false")
    assert page.script(SIDEWAYS) <= 0
    assert page.script(OUTSIDE) == []


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_the_light_and_in_the_dark(page, recording, width, scheme):
    page.foreseen = (503,)
    page.open(width, scheme)
    page.choose(recording)
    page.tick("full", "half")
    page.run()
    page.ended()
    page.prompt("busy")
    page.run()
    page.ended()
    page.script("document.getElementById('key-field').hidden = false")
    assert page.script(CONTRAST) == []
    background = page.script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(16, 19, 23)" if scheme == "dark" else "rgb(247, 248, 249)")


def test_nothing_moves_for_those_who_want_it_still(page, recording):
    media = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    page.choose(recording)
    page.prompt("hold")
    page.run()
    page.until(lambda: page.all(".segments li"))
    assert page.script("return document.getAnimations().length") == 0
    view(page.browser, WIDE)
    page.until(lambda: page.script("return document.getAnimations().length") > 0)


def test_subtitles_have_the_times_of_the_segments_and_no_markup(page):
    segments = [
        {"start": 0, "end": 2.7004, "text": " a <b> &\n\nc --> d "},
        {"start": 3, "end": 4, "text": " \n"},
        {"start": 3661.9996, "end": 3662.5, "text": "end"},
    ]
    made = """
    const [segments, done] = arguments;
    import('/page/subtitles.js').then(made => done([made.asSrt(segments), made.asVtt(segments)]));
    """
    srt, vtt = page.browser.execute_async_script(made, segments)
    assert srt == (
        "1\n00:00:00,000 --> 00:00:02,700\na <b> & c -> d\n\n2\n01:01:02,000 --> 01:01:02,500\nend\n"
    )
    assert vtt == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.700\na &lt;b&gt; &amp; c --&gt; d\n"
        "\n01:01:02.000 --> 01:01:02.500\nend\n"
    )


def test_an_answer_is_saved_as_text_and_subtitles(page, recording, tmp_path):
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    page.choose(recording)
    page.run()
    page.ended()
    for label in ("TXT", "SRT", "VTT"):
        page.foot(label).click()
        path = tmp_path / f"friday call.full.{label.lower()}"
        page.until(path.exists)
        assert "six five two" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "reference", "count", "changed"),
    [
        ("a b c", "a b c", 0, []),
        ("A, b. c!", "a b c", 0, []),
        ("a x c", "a b c", 1, [1]),
        ("a c", "a b c", 1, []),
        ("a b x c", "a b c", 1, [2]),
        ("", "a b", 2, []),
        ("a b", "", 2, [0, 1]),
        ("x a b", "a b y", 2, [0]),
    ],
)
def test_words_that_differ_are_those_of_the_shortest_edit(page, words, reference, count, changed):
    found = """
    const [words, reference, done] = arguments;
    import('/page/words.js').then(({differences, wordsOf}) => {
      const found = differences(wordsOf(words), wordsOf(reference));
      done([found.count, [...found.changed].sort()]);
    });
    """
    assert page.browser.execute_async_script(found, words, reference) == [count, changed]


@pytest.fixture(scope="module")
def real_server(demo_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo behind `serve`, for those with the key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY, "utf-8")
    with serving(demo_artifact, "--workers", 1, "--api-key-file", keys) as server:
        yield f"http://{server.host}:{server.port}/"


def test_a_real_clip_is_heard_recorded_and_compared_on_the_real_server(browser, recording, real_server):
    server = ScriptedServer()
    server.address = real_server
    page = Page(browser, server)
    page.open()
    page.until(lambda: page.one("#key-field").is_displayed())
    page.one("#key").send_keys(KEY, "\n")
    page.until(lambda: page.all(".chip"))
    page.choose(recording)
    page.tick("full", "dense-constant-50")
    page.run()
    assert page.ended() == ["done", "done"]
    for card in page.all("article"):
        said = [one.text for one in card.find_elements("css selector", ".words")]
        assert said == ["friday march six", "five three seven three zero"]
    assert page.figures(page.all("article")[1])["answered by"] == "dense-constant-50"
    page.one("#segments").click()
    page.tick("full")
    page.run()
    assert page.ended() == ["done", "done", "done"]
    page.until(lambda: not page.all("article:last-child .segments li"))
    assert page.text("article:last-child .text").startswith("friday march six")
    page.one("#record").click()
    page.until(lambda: page.text("#record-label") >= "Stop · 0:03.0")
    page.one("#record").click()
    page.until(lambda: page.one("#run").is_enabled() and not page.all("article"))
    page.run()
    assert page.ended() == ["done"]
    assert len(page.text("article .text").split()) >= 3
    assert all(url.startswith((real_server, *OWN)) for url in requests(browser))
