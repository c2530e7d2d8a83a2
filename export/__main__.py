"""`python -m fastadasp.export` is the command line as well."""

from .cli import main

main(prog_name="fastadasp-export")
