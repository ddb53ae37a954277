"""A loss surface: from a request to a finished file."""
