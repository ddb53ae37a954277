"""Numbered items, shared out among ranks, kept in a file, gone on with; no torch."""
