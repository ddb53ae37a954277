"""The steps that make evaluation fast, each in a module of its own."""
