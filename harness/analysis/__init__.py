"""What is computed beyond the scores of the table: calibration, confusion, saliency and sharpness.

Pure functions of arrays, tensors and modules; nothing here reads the store, and a module is left as it was found.
"""
