"""A training run: construction, progress, checkpoints, resume, its directory."""
