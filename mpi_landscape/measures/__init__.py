"""Numbers about a minimum, from the values of a surface alone."""
