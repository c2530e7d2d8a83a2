"""Chromium without a window, for tests of pages: what it has drawn, asked for and complained about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
LOGS = {"browser": "ALL", "performance": "ALL"}
WIDE, PHONE = 1280, 360

needs_chromium = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="needs chromium and chromedriver: apt-get install chromium chromium-driver",
)


@contextmanager
def chromium(profile: Path, *arguments: str) -> Iterator[Any]:
    """A browser with a folder of its own, and further arguments."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in (*ARGUMENTS, *arguments, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", LOGS)
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def show(browser: Any, address: str, width: int = WIDE, scheme: str = "light") -> None:
    """Open a page that wide, and forget what the browser has logged before."""
    view(browser, width, scheme)
    browser.get("about:blank")
    for log in LOGS:
        browser.get_log(log)
    browser.get(address)


def view(browser: Any, width: int, scheme: str = "light") -> None:
    """Look at the open page that wide, in the light or in the dark."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


def requests(browser: Any) -> list[str]:
    """Addresses that were asked for since the page was opened, or since the last look."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]
