"""Score a row and explain it in customer words: the one path that training, validation and serving share.

Nothing here imports pandas, polars or MLflow, so a serving replica that loads it stays light.
"""
