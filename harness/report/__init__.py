"""Results for people: read the store, write text, figures and pages. Nothing here imports torch."""
