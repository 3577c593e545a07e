"""Studies of many runs: presets, the runner, result files, the paper's tables and pictures."""
