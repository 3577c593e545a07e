"""Benchmarks: how close each part of a step comes to the limits of the machine."""
