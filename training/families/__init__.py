"""The model families that can be trained. Each file holds one class and one instance of it called `family`."""
