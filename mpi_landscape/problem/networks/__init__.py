"""Networks by name, or by a user's own target."""
