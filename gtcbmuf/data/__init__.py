"""Frames of speech with targets: corpus files, minibatches, features, imports and synthesis."""
