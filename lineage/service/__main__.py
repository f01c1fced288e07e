"""`python -m lineage.service`."""

from lineage.service.app import main

main()
