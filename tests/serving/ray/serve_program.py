"""Serves what its arguments say on a Ray of its own, prints its address, and ends when its input does."""

import sys

import ray
from ray import serve

from fastadasp.serving.ray_app import app

port, *words = sys.argv[1:]
ray.init(address="local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
serve.run(app(dict(word.split("=", 1) for word in words)))
print("SERVED", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
