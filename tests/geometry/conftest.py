"""Hypothesis draws the same examples in each run, and no slow machine fails a test."""

from hypothesis import settings

settings.register_profile("featmesh", deadline=None, derandomize=True, database=None)
settings.load_profile("featmesh")
