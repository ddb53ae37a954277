"""Spectra of the Hessian of a mean loss at points."""
