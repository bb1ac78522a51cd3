"""Simulated cuda-python: the runtime API, under both of its import names."""
