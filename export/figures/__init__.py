"""Figures that were measured of an artifact, taken into it."""
