"""The embedded and the public data sets: where they are, how their files are read."""
