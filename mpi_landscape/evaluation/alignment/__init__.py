"""Which hidden units of a network may change places, and which places bring one network next to another."""
