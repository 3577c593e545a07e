"""Synthetic speech from espeak-ng, with exact phone labels; needs the extra `synth`."""
