"""The application of Ray Serve: doors that speak HTTP, and replicas of the model behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...evaluation.answers.workers import Job
from ...runtime.artifact.artifact import open_artifact
from ...runtime.artifact.manifest import FILE_NAME
from ...runtime.decoding.options import NOTHING_GIVEN
from ..http.app import Api, build_app
from ..http.prompts import Prompts
from ..http.served import Served
from ..metrics import Metrics
from ..models import Models
from ..pool.answering import AudioLimits
from ..pool.worker import Plan
from ..server import limits_of, models_of
from .cluster import claimed
from .options import ScaleOptions
from .pool import RayPool
from .replica import Speech

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MODEL, DOOR = "Speech", "Door"
PATIENCE = {"health_check_period_s": 2.0, "health_check_timeout_s": 10.0, "graceful_shutdown_timeout_s": 30.0}
MOST_ONGOING = 100_000  # of a door, which limits requests itself, with a better answer


def application(options: ScaleOptions) -> Any:
    """What Serve runs.

    Raises:
        ArtifactError: missing, damaged, or without a tokenizer.
        RequestError: an unknown profile.
    """
    from ray import serve

    artifact, server = open_artifact(options.artifact), options.server
    models = models_of(artifact, server)
    job = Job(options.artifact, artifact.manifest.digest, (models.loaded,), NOTHING_GIVEN, server.runtime)
    plan = Plan(job, models, AudioLimits(server.max_audio_seconds, server.whole_seconds), server.hang_seconds)
    created = int((options.artifact / FILE_NAME).stat().st_mtime)
    model = serve.deployment(Speech, name=MODEL).options(
        **_scale(options),
        **PATIENCE,
        max_ongoing_requests=server.runtime.max_batch,
        ray_actor_options=claimed(server.runtime),
    )
    door = serve.deployment(serve.ingress(_door(options, models, created))(), name=DOOR).options(
        **PATIENCE,
        num_replicas=options.doors,
        max_ongoing_requests=MOST_ONGOING,
        ray_actor_options={"num_cpus": 0},
    )
    return door.bind(model.bind(plan))


def _scale(options: ScaleOptions) -> dict[str, Any]:
    """How many replicas there are: a number, or limits that the requests move it within."""
    if options.min_replicas == options.max_replicas:
        return {"num_replicas": options.min_replicas}
    moved = {
        "min_replicas": options.min_replicas,
        "max_replicas": options.max_replicas,
        "target_ongoing_requests": options.target,
        "upscale_delay_s": options.upscale_delay,
        "downscale_delay_s": options.downscale_delay,
    }
    return {"num_replicas": "auto", "autoscaling_config": moved}


def _door(options: ScaleOptions, models: Models, created: int) -> Callable[[], ASGIApp]:
    """What makes the application of HTTP in the process of a door."""

    def build() -> ASGIApp:
        from ray import serve

        server, metrics = options.server, Metrics()
        most = options.max_replicas * server.runtime.max_batch + server.max_queue
        pool = RayPool(serve.get_deployment_handle(MODEL), most, options.tries, server.deadline, metrics)
        prompts = Prompts(server.prompt, server.translation_prompt)
        served = Served(models, prompts, server.max_upload_bytes, created)
        app = build_app(Api(pool, served, metrics), limits_of(server), metrics)
        return _with_lifespan(app)

    return build


def _with_lifespan(app: ASGIApp) -> ASGIApp:
    """The same for a server that tells of its start and its end, as Serve does."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    return told
