"""Studies of many runs: presets, processes, results, the paper's tables and pictures."""
