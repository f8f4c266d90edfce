"""`python -m ampsweep.cli`: the command line where the command itself is not on the path."""

from ampsweep.cli import main

if __name__ == "__main__":
    main()
