"""Files of `mpi_landscape.connect`: the losses along a path between two solutions."""
