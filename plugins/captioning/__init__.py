"""What the built-in captioner is made of: encoder, attention, decoder, generation.

Letter code of shapes, with that of ``harness.types``: L locations of an image, D features of each, T words, V words
known, M hypotheses of an image side by side (one but for beam search).
"""
