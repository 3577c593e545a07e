"""Benchmarks: how near each part of a step is to the limit of the machine."""
