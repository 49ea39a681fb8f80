"""Drawings of results: plain arrays in, a matplotlib figure out. Nothing here reads the store."""
