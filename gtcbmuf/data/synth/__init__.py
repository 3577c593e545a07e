"""Synthetic speech from espeak-ng, with exact phone labels. Needs the extra `synth`."""
