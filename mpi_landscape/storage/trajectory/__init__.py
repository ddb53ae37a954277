"""Trajectory files: where training went, in a plane; no torch and no MPI."""
