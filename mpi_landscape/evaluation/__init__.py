"""How: the loss at many points, fast; no MPI, no files."""
