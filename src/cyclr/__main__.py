"""``python -m cyclr``."""

from cyclr.cli import main

main()
