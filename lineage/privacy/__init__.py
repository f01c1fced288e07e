"""Keys of data subjects, decisions about them, and erasure."""
