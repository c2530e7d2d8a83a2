"""`serve run` with these words on a Ray of its own, at a port; ends when its input does."""

import sys

import ray
from ray import serve
from ray.serve.scripts import cli

port, *words = sys.argv[1:]
ray.init(address="local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
cli(["run", "--non-blocking", "fastadasp.serving.ray_app:app", *words], standalone_mode=False)
print("SERVED", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
