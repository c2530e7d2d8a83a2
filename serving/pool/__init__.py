"""Processes that answer requests, each with the artifact loaded, and the queue before them."""
