"""Pipelines: stages and sources run on Ray."""
