"""A problem on its device: network, center, plane and data, the same on every rank."""
