"""`python -m lineage.witness`."""

from lineage.witness.server import main

main()
