"""The configuration of a run: typed sections, recipes, and what `--set` overrides."""
