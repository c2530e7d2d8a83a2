"""An artifact behind Ray Serve: OpenAI's client, replicas that come with the load, and one that is killed."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import openai
import psutil
import pytest

from fastadasp.runtime import SpeechLM
from free_port import free_port

from .own_ray import NEEDS_RAY, WAIT, OwnRay, own_ray, wait_for

pytestmark = [NEEDS_RAY, pytest.mark.alone]
TOKENS, PROMPT = 8, "transcribe"
REPLICA = "ray::ServeReplica:default:Speech"
CLIENTS = 8
PROGRAM = Path(__file__).with_name("serve_program.py")


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRay]:
    yield from own_ray(tmp_path_factory.mktemp("ray") / "ray.log")


@pytest.fixture(scope="module")
def address(ray: OwnRay, tiny_artifact: Path) -> Iterator[str]:
    port = free_port()
    words = (f"artifact={tiny_artifact}", "name=tiny", "max_batch=4", "whole_seconds=10")
    scale = ("min_replicas=1", "max_replicas=2", "target_requests=1", "upscale_delay=0")
    process = ray.start(str(PROGRAM), str(port), *words, *scale)
    try:
        wait_for(lambda: process.poll() is not None or "SERVED" in ray.log.read_text(), ray.log)
        assert process.poll() is None, ray.log.read_text()[-5000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(WAIT)


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def expected(tiny_artifact: Path, clip: Path) -> dict[str, str]:
    """The answer under each profile, by the name of the model that gives it."""
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        return {
            f"tiny:{name}": model.generate(clip, PROMPT, profile=name, max_new_tokens=TOKENS).text
            for name in model.profiles
        }


def ask(client: openai.OpenAI, clip: Path, model: str) -> str:
    with clip.open("rb") as file:
        found = client.audio.transcriptions.create(
            file=file, model=model, prompt=PROMPT, extra_body={"max_new_tokens": TOKENS}
        )
    return found.text


def stream(client: openai.OpenAI, clip: Path, model: str) -> Iterator[str]:
    with (
        clip.open("rb") as file,
        client.audio.transcriptions.create(
            file=file, model=model, prompt=PROMPT, stream=True, extra_body={"max_new_tokens": TOKENS}
        ) as events,
    ):
        yield from (event.delta for event in events if event.type == "transcript.text.delta")


def test_text_is_streamed_under_each_profile(
    client: openai.OpenAI, clip: Path, expected: dict[str, str]
) -> None:
    assert {each.id for each in client.models.list()} == set(expected)
    for model, text in expected.items():
        pieces = list(stream(client, clip, model))
        assert len(pieces) > 2
        assert "".join(pieces) == text


def test_a_fault_of_a_request_is_told(client: openai.OpenAI, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(openai.BadRequestError, match="unknown format"):
        ask(client, tmp_path / "junk", "tiny")
    with pytest.raises(openai.NotFoundError, match="'none' does not exist"):
        ask(client, tmp_path / "junk", "none")


def test_replicas_come_with_the_load_and_the_requests_of_one_that_is_killed_are_answered(
    ray: OwnRay, address: str, client: openai.OpenAI, clip: Path, expected: dict[str, str]
) -> None:
    done, answered = threading.Event(), [0] * CLIENTS
    is_read = [False] * CLIENTS  # whether a client has read the beginning of an answer, and not its end
    assert len(ray.processes(REPLICA)) == 1

    def in_pieces(number: int, model: str) -> Iterator[str]:
        for piece in stream(client, clip, model):
            is_read[number] = True
            yield piece
        is_read[number] = False

    def load(number: int) -> list[bool]:
        """Ask until there is enough, in pieces or whole, and compare."""
        right = []
        while not done.is_set():
            model = list(expected)[len(right) % len(expected)]
            text = "".join(in_pieces(number, model)) if number % 2 else ask(client, clip, model)
            right.append(text == expected[model])
            answered[number] += 1
        return right

    def more_answers(count: int) -> None:
        """Wait for so many of them."""
        before = sum(answered)
        wait_for(lambda: sum(answered) >= before + count or any(it.done() for it in loads), ray.log)

    def is_under_way() -> bool:
        """Whether an answer that has begun gets nowhere while others get 50: a silent replica has it."""
        before = answered.copy()
        begun = [number for number in range(CLIENTS) if is_read[number]]
        more_answers(50)
        return any(answered[number] == before[number] for number in begun)

    with ThreadPoolExecutor(CLIENTS) as clients:
        loads = [clients.submit(load, number) for number in range(CLIENTS)]
        try:
            wait_for(lambda: len(ray.processes(REPLICA)) == 2 or any(it.done() for it in loads), ray.log)
            more_answers(100)
            killed = max(ray.processes(REPLICA), key=lambda process: process.cpu_times().user)
            with suppress(psutil.NoSuchProcess):  # Serve ends one that stays silent for long
                try:
                    killed.suspend()
                    while not is_under_way():  # it had no request just then
                        killed.resume()
                        more_answers(1)
                        killed.suspend()
                finally:
                    killed.kill()
            more_answers(100)
        finally:
            done.set()
        assert all(all(load.result()) for load in loads)
    assert killed not in ray.processes(REPLICA)
    with urllib.request.urlopen(f"{address.removesuffix('/v1')}/metrics") as response:
        retries = re.search(rb"^fastadasp_request_retries_total (\S+)$", response.read(), re.MULTILINE)
    assert retries is not None
    assert float(retries[1]) >= 1
