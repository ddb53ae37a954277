"""Who: ranks, devices, broadcast, coordinator; the only room that imports mpi4py."""
