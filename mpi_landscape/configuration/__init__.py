"""What a file says: YAML, bases, sweeps, options, sections; the only room that imports yaml and pydantic."""
