"""Plugins are registered without what only a parser of graphs needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fastadasp.plugins import tensorrt_library
from fastadasp.plugins.tensorrt_library import NAMESPACE, PLUGINS, VERSION, load_plugins
from fastadasp.profiles.errors import DependencyError


def test_who_loads_engines_needs_no_name_of_the_library_for_a_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes a compiler, where the wheel cannot be written."""

    def refused() -> None:
        raise DependencyError("there is no C compiler")

    monkeypatch.setattr(tensorrt_library, "provide_parser_library", refused)
    loaded: list[str] = []
    registry = SimpleNamespace(all_creators=[])

    def load(path: str) -> None:
        loaded.append(path)
        registry.all_creators = [
            SimpleNamespace(name=name, plugin_version=VERSION, plugin_namespace=NAMESPACE) for name in PLUGINS
        ]

    registry.load_library = load
    (library := tmp_path / "plugins.so").touch()
    load_plugins(library, SimpleNamespace(get_plugin_registry=lambda: registry))
    assert loaded == [str(library)]
