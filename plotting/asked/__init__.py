"""Which pictures are asked for."""
