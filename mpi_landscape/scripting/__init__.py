"""The programs from a Python script or a notebook: one process, or all ranks of an mpiexec."""
