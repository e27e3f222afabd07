"""`python -m huibo`."""

from huibo.cli import main

main()
