"""One file per model family that can be trained; its twin in `validators/scoring/families` answers."""
