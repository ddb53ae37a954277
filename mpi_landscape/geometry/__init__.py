"""Where: flat parameter vectors, directions, grids, tiles; no files, no MPI."""
