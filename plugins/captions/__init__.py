"""What the captioned data sets are made of: drawn scenes, and files of captions."""
