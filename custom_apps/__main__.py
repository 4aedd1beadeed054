"""``python -m custom_apps``."""

import sys

from custom_apps.cli import main

sys.exit(main())
