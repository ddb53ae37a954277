"""Kept: the file schema, its writers and readers; the only room that imports h5py."""
