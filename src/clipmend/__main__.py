"""The command line, as `python -m clipmend`."""

from clipmend.cli import main

if __name__ == "__main__":
    main()
