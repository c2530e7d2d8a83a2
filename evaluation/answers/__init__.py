"""Clips answered under every profile, kept in a journal while it lasts."""
