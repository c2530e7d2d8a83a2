"""What transformers tells while it loads a model: dropped, unless it fails."""

from __future__ import annotations

import logging
from logging.handlers import BufferingHandler

import pytest

from fastadasp.export.model.families.parts.reference import _report_of_failure

LOGGER = logging.getLogger("transformers")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> BufferingHandler:
    handler = BufferingHandler(10)
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    return handler


def fail() -> None:
    with _report_of_failure():
        LOGGER.warning("two tensors do not fit")
        raise RuntimeError("see the report above")


def test_the_report_of_a_load_is_dropped(shown: BufferingHandler) -> None:
    with _report_of_failure():
        LOGGER.warning("left out")
    LOGGER.warning("later")
    assert [record.getMessage() for record in shown.buffer] == ["later"]


def test_the_report_of_a_load_that_fails_is_shown(shown: BufferingHandler) -> None:
    with pytest.raises(RuntimeError):
        fail()
    assert [record.getMessage() for record in shown.buffer] == ["two tensors do not fit"]
