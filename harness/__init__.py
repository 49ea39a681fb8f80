"""The harness: finds components, plans the matrix, runs what is missing, judges, stores. Names no plugin."""
