"""What `serve run` is given, and what is said where Ray is not there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.profiles.errors import DependencyError, RequestError
from fastadasp.runtime import Auto
from fastadasp.serving.models import Models
from fastadasp.serving.ray import application as application_module
from fastadasp.serving.ray.options import scale_options
from fastadasp.serving.ray_app import app


def test_words_become_options(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("0123456789abcdef\n")
    found = scale_options(
        {
            "artifact": "ART",
            "min_replicas": "2",
            "max_replicas": "8",
            "max_batch": "4",
            "deadline": "30",
            "api_key_file": str(tmp_path / "keys"),
        }
    )
    assert found.artifact == Path("ART").absolute()
    assert (found.min_replicas, found.max_replicas, found.target) == (2, 8, 2.0)
    assert (found.server.runtime.max_batch, found.server.runtime.threads) == (4, 1)
    assert (found.server.deadline, found.server.api_keys) == (30.0, ("0123456789abcdef",))


def test_values_of_a_file_need_be_no_texts() -> None:
    found = scale_options({"artifact": "ART", "min_replicas": 3, "target_requests": 1.5, "threads": 2})
    assert (found.min_replicas, found.max_replicas, found.target) == (3, 3, 1.5)
    assert found.server.runtime.threads == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({}, "artifact is missing"),
        ({"artifact": "ART", "replicas": "2"}, "replicas: no such option; there are: artifact"),
        ({"artifact": "ART", "max_batch": "many"}, "max_batch is 'many': give a number"),
        ({"artifact": "ART", "min_replicas": "3", "max_replicas": "2"}, "more than max_replicas"),
        ({"artifact": "ART", "doors": "0"}, "doors is 0"),
        ({"artifact": "ART", "target_requests": "nan"}, "target_requests is nan"),
        ({"artifact": "ART", "upscale_delay": "-1"}, "upscale_delay is -1"),
        ({"artifact": "ART", "latency_budget": "0"}, "latency_budget is 0.0: give seconds above 0"),
        ({"artifact": "ART", "latency_budget": "1", "accuracy_budget": "1"}, "both are given"),
        ({"artifact": "ART", "backend": "none"}, "backend 'none' is unknown"),
        ({"artifact": "ART", "backend": "tensorrt", "threads": "2"}, "no option of the backend tensorrt"),
    ],
)
def test_what_is_no_option_is_refused_by_name(words: dict[str, str], reason: str) -> None:
    with pytest.raises(RequestError) as error:
        scale_options(words)
    assert reason in str(error.value)


def test_a_budget_is_what_profiles_are_chosen_for() -> None:
    found = scale_options({"artifact": "ART", "profile": "auto", "latency_budget": "1.5"})
    assert (found.server.profile, found.server.auto) == ("auto", Auto(latency_budget=1.5))
    assert scale_options({"artifact": "ART"}).server.auto is None


def test_where_the_profile_is_chosen_replicas_are_loaded_under_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bound: list[Any] = []

    class Deployment:
        """In the place of one of Ray Serve."""

        def __init__(self, *_: Any, **named: str) -> None:
            pass

        def options(self, **_: Any) -> Deployment:
            return self

        def bind(self, *given: Any) -> None:
            bound.extend(given)

    serve = SimpleNamespace(deployment=Deployment, ingress=lambda _: object)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=serve))
    artifact = SimpleNamespace(manifest=SimpleNamespace(digest=""))
    monkeypatch.setattr(application_module, "open_artifact", lambda _: artifact)
    models = Models("demo", ("full", "half"), "auto")
    monkeypatch.setattr(application_module, "models_of", lambda *_: models)
    (tmp_path / "manifest.json").write_text("{}")
    application_module.application(scale_options({"artifact": tmp_path, "profile": "auto"}))
    assert bound[0].job.profiles == ("full",)


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r'pip install "fastadasp-export\[ray\]"'):
        app({"artifact": "ART"})
    command = ["transcribe", "ART", str(tmp_path), "-o", str(tmp_path / "out.jsonl"), "--engine", "ray"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert 'ray is not installed; this command needs the packages of ray: pip install "fasta' in result.stderr
