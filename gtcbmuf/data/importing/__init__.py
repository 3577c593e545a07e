"""Import of corpora: Kaldi's features and alignments, or recordings with TextGrids or a CTM."""
