"""``python -m mlfleet.cli``."""

import sys

from mlfleet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
