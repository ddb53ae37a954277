"""A trained network: one training in its folder, and many of them as a sweep."""
