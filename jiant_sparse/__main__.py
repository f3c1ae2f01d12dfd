"""`python -m jiant_sparse` is the command line."""

from jiant_sparse.cli import main

main()
