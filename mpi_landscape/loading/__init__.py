"""A split as batches on the device; no MPI, no HDF5."""
