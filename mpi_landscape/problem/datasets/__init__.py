"""Data sets by name, or by a user's own target; the only place that knows file formats of data."""
