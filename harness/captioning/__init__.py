"""Captions: cleaning and counting their words, scoring them, keeping features, training and judging captioners."""
