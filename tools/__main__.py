"""`python -m tools VERB` is `chipproof VERB`."""

from tools.cli import main

main()
