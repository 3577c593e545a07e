"""Forced alignment: the phones of recordings from their texts, from a flat start."""
