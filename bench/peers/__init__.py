"""Ours and its peers, each in a process of its own, taking turns."""
