"""Histograms and norms of the weights of checkpoints."""
