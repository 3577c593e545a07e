"""Speech as frames with targets: corpus files, minibatches, features, imports, synthesis."""
