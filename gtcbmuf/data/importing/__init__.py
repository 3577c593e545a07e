"""Corpora from Kaldi's features and alignments, or from recordings with TextGrids or a CTM."""
