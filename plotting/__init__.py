"""Pictures from a surface file: contours, heat maps, 3-D surfaces and lines; needs neither torch nor MPI."""
