"""The model families that can score. Each file holds a function called `parse` (`validators.scoring.port.Parse`)."""
