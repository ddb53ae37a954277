"""Curvature: products of the mean loss's Hessian with vectors, and what linear algebra makes of them."""
