"""One file per model family that can answer. Each has `parse(name, content) -> Scorer` (`validators.scoring.port`)."""
