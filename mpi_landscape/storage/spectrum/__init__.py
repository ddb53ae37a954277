"""Spectrum files: eigenvalues of a Hessian at a point, and the density of all others; no torch and no MPI."""
