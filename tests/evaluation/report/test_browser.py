"""The page in Chromium: it draws, fits a phone and paper, asks for nothing, and runs nothing of a file."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chromium import PHONE, WIDE, chromium, needs_chromium, requests, show

from ..conftest import run

PAPER = 690
OWN = ("file:", "data:", "blob:")
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>{{7*7}}%{x}"
AS_IT_IS = ("kind", "unit", "name", "level", "levels", "ratio", "flops_reduction", "reachable", "arrivals")
"""What the structure of a file hangs on; all else it may choose freely."""
DRAWN = (
    "return [...document.querySelectorAll('.plot')].filter(plot => plot.querySelector('svg.main-svg')).length"
)
WIDEST = """
return Math.max(...[...document.querySelectorAll('.main-svg')].map(svg => svg.getBoundingClientRect().right));
"""
TOUCHING = """
const touching = [];
for (const plot of document.querySelectorAll('.plot')) {
  for (const axis of ['.xaxislayer-above', '.yaxislayer-above', '.annotation']) {
    const boxes = [...plot.querySelectorAll(`${axis} text`)].map(text => text.getBoundingClientRect());
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
      if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        touching.push(plot.getAttribute('aria-label') + axis);
    }));
  }
}
return touching;
"""
OUTSIDE = """
return [...document.querySelectorAll('.plot')].filter(plot => {
  const frame = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('text')].some(text => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1);
  });
}).map(plot => plot.getAttribute('aria-label'));
"""
PIXELS = """
const [image, done] = [new Image(), arguments[2]];
image.onload = () => {
  const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
  context.drawImage(image, 0, 0);
  done(arguments[1].map(({left, right, y}) => {
    const {data} = context.getImageData(left, y, right - left, 1);
    return Array.from({length: right - left}, (_, i) => data.slice(4 * i, 4 * i + 3).join());
  }));
};
image.src = 'data:image/png;base64,' + arguments[0];
"""
LINES_OF_BARS = """
const lines = new Map();
for (const path of document.querySelectorAll('#where-rows-stand .bars .point path')) {
  const {left, right, top, bottom} = path.getBoundingClientRect(), y = Math.round((top + bottom) / 2);
  const line = lines.get(y) ?? {left: Infinity, right: 0, bars: 0, y};
  lines.set(y, {left: Math.min(line.left, Math.ceil(left)), right: Math.max(line.right, Math.floor(right)),
                bars: line.bars + 1, y});
}
return [...lines.values()];
"""

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module")
def report(all_files, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("report") / "report.html"
    assert run("report", *all_files, "-o", output).exit_code == 0
    return output


@pytest.fixture(scope="module")
def hostile_report(made_up_files, real_files, tmp_path_factory) -> Path:
    """Every text that a file may choose freely is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    sources = [*made_up_files, *real_files.values()]
    paths = [folder / f"<img src=x onerror='window.ran = 1'> {i}.json" for i in range(len(sources))]
    for source, path in zip(sources, paths, strict=True):
        path.write_text(json.dumps(attacked(json.loads(source.read_text("utf-8")))), "utf-8")
    assert run("report", *paths, "-o", folder / "report.html").exit_code == 0
    return folder / "report.html"


def attacked(content: Any) -> Any:
    """The same content with `HOSTILE` behind every text."""
    if isinstance(content, dict):
        found = {key: value if key in AS_IT_IS else attacked(value) for key, value in content.items()}
        if "command" in content:  # one more word; a line that is more than words is no command
            found["command"] = shlex.join((*shlex.split(content["command"]), HOSTILE))
        return found
    if isinstance(content, list):
        return [attacked(value) for value in content]
    return f"{content}{HOSTILE}" if isinstance(content, str) else content


def number_of_plots(browser: Any) -> int:
    return browser.execute_script("return document.querySelectorAll('.plot').length")


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_plot_is_drawn_without_a_word_in_the_console(browser, report, width, scheme):
    show(browser, report.as_uri(), width, scheme)
    assert browser.execute_script(DRAWN) == number_of_plots(browser) > 15
    assert browser.get_log("browser") == []


def test_the_page_asks_the_network_for_nothing(browser, report):
    show(browser, report.as_uri())
    found = requests(browser)
    assert found
    assert all(url.startswith(OWN) for url in found)


def test_what_the_page_forbids_is_seen_by_this_test(browser, report):
    show(browser, report.as_uri())
    browser.execute_async_script(
        "const done = arguments[0]; fetch('https://example.invalid/').then(done, () => done())"
    )
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("width", [WIDE, PHONE, 600])
def test_the_page_never_scrolls_sideways(browser, report, width):
    show(browser, report.as_uri(), width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    inner, scroll = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert scroll <= inner == width


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_labels_neither_touch_nor_leave_their_plot(browser, report, width):
    show(browser, report.as_uri(), width)
    assert browser.execute_script(TOUCHING) == []
    assert browser.execute_script(OUTSIDE) == []


def test_plots_follow_the_width_of_the_window(browser, report):
    show(browser, report.as_uri(), WIDE)
    assert PHONE < browser.execute_script(WIDEST) <= WIDE
    screen = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10).until(lambda driver: driver.execute_script(WIDEST) <= PHONE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_neighbouring_bars_of_a_map_differ_on_a_screen_of_few_pixels(browser, report, real_files, scheme):
    layers = json.loads(real_files["row-map"].read_text("utf-8"))["layers"]
    show(browser, report.as_uri(), scheme=scheme)
    browser.execute_script(
        "document.querySelector('#where-rows-stand .plot').scrollIntoView({behavior: 'instant'})"
    )
    lines = browser.execute_script(LINES_OF_BARS)
    assert [line["bars"] for line in lines] == [len(layer["starts"]) for layer in layers]
    screen = browser.get_screenshot_as_base64()
    browser.get("about:blank")
    for line, pixels in zip(lines, browser.execute_async_script(PIXELS, screen, lines), strict=True):
        assert sum(left != right for left, right in pairwise(pixels)) >= line["bars"] - 1


def test_a_method_can_be_hidden_in_all_plots_of_its_section(browser, report):
    show(browser, report.as_uri())
    button = browser.find_element("css selector", "#accuracy-and-flops button[data-series]")
    series = button.get_attribute("data-series")
    traces = """
    return [...document.querySelectorAll('#accuracy-and-flops .plot')].map(
      plot => plot.data.filter(arguments[0] ? trace => trace.legendgroup === arguments[0]
                                            : trace => trace.visible === false).length)"""
    of_series = browser.execute_script(traces, series)
    assert sum(of_series) > 1
    button.click()
    assert browser.execute_script(traces, None) == of_series
    button.click()
    assert not any(browser.execute_script(traces, None))


def test_the_page_prints_with_plots_within_the_paper(browser, report):
    show(browser, report.as_uri())
    paper = {"width": PAPER, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert base64.b64decode(browser.print_page()).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    assert browser.execute_script(WIDEST) <= PAPER
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PAPER
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert background == "rgb(255, 255, 255)"


def test_nothing_that_a_file_holds_is_run(browser, hostile_report):
    show(browser, hostile_report.as_uri())
    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert browser.execute_script(DRAWN) == number_of_plots(browser) > 10
    assert all(url.startswith(OWN) for url in requests(browser))
    assert browser.get_log("browser") == []


def test_hostile_text_is_shown_as_it_is(browser, hostile_report):
    show(browser, hostile_report.as_uri())
    shown = browser.execute_script("return document.body.textContent")
    assert f"fastv{HOSTILE}" in shown
    hover = "return document.querySelector('.plot').data[0].hovertext[0]"
    assert "&lt;img" in browser.execute_script(hover)
    labels = browser.execute_script(
        "return [...document.querySelectorAll('.plot text')].map(t => t.textContent)"
    )
    assert any("full</script>" in label for label in labels)


def test_hostile_text_does_not_widen_the_page_of_a_phone(browser, hostile_report):
    show(browser, hostile_report.as_uri(), PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
