"""Families of speech language models: what a checkpoint's own names and rules mean."""
