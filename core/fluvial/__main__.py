"""``python -m fluvial`` is the command ``fluvial``."""

from fluvial.cli.main import main

if __name__ == "__main__":
    main()
