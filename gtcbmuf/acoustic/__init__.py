"""Acoustic models: the MLP, model files, posteriors, the phone loop and evaluation."""
