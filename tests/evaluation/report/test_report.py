"""The command, and the page as text: complete, reproducible, inert."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from fastadasp.evaluation.report.page import page, script_json
from fastadasp.export.commands import parameters

from ..conftest import run

SIZE_LIMIT = 6e6  # bytes, nearly all of them Plotly


@pytest.fixture(scope="module")
def text(results):
    return page(results)


class Elements(HTMLParser):
    """Every element with its attributes, and the text of every script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1] == ("script", {}):
            self.scripts.append(data)


def test_a_report_is_one_page(all_files, tmp_path):
    output = tmp_path / "report.html"
    result = run("report", *all_files, "-o", output)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"report of {len(all_files)} files in {output}, ")
    assert output.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert output.stat().st_size < SIZE_LIMIT


def test_the_size_of_a_page_is_that_of_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("fastadasp.evaluation.results.files.read_results", list)
    monkeypatch.setattr("fastadasp.evaluation.report.page.page", lambda results: 800 * "ö")
    output = tmp_path / "report.html"
    assert run("report", tmp_path / "eval.json", "-o", output).stderr.endswith(f" in {output}, 1.6 kB\n")
    assert output.stat().st_size == 1600


def test_equal_files_give_equal_bytes(results, text):
    assert page(results) == text


def test_a_page_refers_to_nothing_but_itself(text):
    links = [
        value
        for tag, attributes in Elements(text).found
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)


def test_only_the_two_scripts_of_the_page_are_allowed_to_run(text):
    elements = Elements(text)
    (policy,) = (
        attributes["content"]
        for tag, attributes in elements.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    allowed = re.search(r"script-src ([^;]*);", policy).group(1).split()
    assert allowed == [f"'sha256-{found}'" for found in hashes]
    assert policy.startswith("default-src 'none';")


def test_links_lead_to_sections(text):
    found = Elements(text).found
    anchors = {attributes["href"][1:] for tag, attributes in found if tag == "a"}
    assert anchors == {attributes["id"] for tag, attributes in found if tag == "section"}


def test_text_of_a_file_cannot_end_a_script():
    written = script_json(text := "</script><!-- & \u2028")
    assert not set(written) & set("<>&\u2028")
    assert json.loads(written) == text


def test_faults_are_told_with_a_line_each(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    result = run("report", tmp_path / "a.json", tmp_path / "b.json", "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
        "Error",
        f"  {tmp_path / 'a.json'}",
        f"  {tmp_path / 'b.json'}",
    ]
    assert not (tmp_path / "report.html").exists()


def test_without_plotly_the_extra_is_named(made_up_files, tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "find_spec", lambda name: None)
    result = run("report", *made_up_files, "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert 'pip install "fastadasp-export[report]"' in result.stderr


@pytest.mark.parametrize("name", ["page.pdf", "page", "page.json"])
def test_a_page_is_written_as_nothing_but_html(made_up_files, tmp_path, name):
    output = tmp_path / name
    result = run("report", *made_up_files, "-o", output)
    assert result.exit_code == 2
    assert f"output {output}: the page is HTML; give {tmp_path}/page.html" in result.stderr
    assert not output.exists()
