"""What code asks for: the same plan, executor, judge and store as the command line, on objects at hand."""
