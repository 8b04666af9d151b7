"""`python -m bitsd` is the `bitsd` command."""

import sys

from bitsd.cli import main

sys.exit(main())
