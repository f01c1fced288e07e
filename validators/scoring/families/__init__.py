"""One file per model family that can answer. Each has `load(path) -> Scorer` (`validators.scoring.port`)."""
