"""`python -m genclass`."""

from genclass.cli import main

main()
