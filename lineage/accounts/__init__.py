"""What accounts prove themselves with: passwords, codes, tokens. Who they are and what they may do is on record."""
