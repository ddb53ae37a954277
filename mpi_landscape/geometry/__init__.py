"""Where: flat parameter vectors and their directions; no files, no MPI."""
