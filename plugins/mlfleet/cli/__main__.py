"""``python -m mlfleet.cli``."""

import sys

from mlfleet.cli.main import main

sys.exit(main())
