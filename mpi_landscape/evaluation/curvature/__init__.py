"""Curvature of the mean loss: products of its Hessian with vectors, and what Lanczos runs make of them."""
