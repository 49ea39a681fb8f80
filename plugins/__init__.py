"""The built-in components, one a file, found through the same entry points as anybody's."""
