"""What the files of the page are sent with, and that there are no others; no browser is needed for this."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from .scripted_server import ScriptedServer, scripted_server


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def test_headers_forbid_all_that_the_page_does_not_need(server: ScriptedServer) -> None:
    for name in ("", "page/app.js", "page/style.css", "page/icon.svg"):
        with urllib.request.urlopen(server.address + name) as response:
            policy = response.headers["content-security-policy"]
            tag = response.headers["etag"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
        again = urllib.request.Request(server.address + name, headers={"If-None-Match": tag})
        with pytest.raises(urllib.error.HTTPError, match="304"):
            urllib.request.urlopen(again)


def test_only_files_of_the_page_are_served(server: ScriptedServer) -> None:
    for name in ("page/", "page/index.html", "page/../routes.py", "page/%2e%2e/routes.py", "page/routes.py"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.address + name)
