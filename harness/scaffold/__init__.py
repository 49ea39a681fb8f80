"""New packages of plugins."""
