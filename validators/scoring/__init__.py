"""Score a row, explain it, and say so in customer words: the one path that training, validation and serving share.

Nothing here imports pandas, polars or MLflow, so a serving replica that loads it stays light.
"""
