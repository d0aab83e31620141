"""`python -m mammoprep` is the same as the console script."""

from mammoprep.cli import main

if __name__ == "__main__":
    main()
