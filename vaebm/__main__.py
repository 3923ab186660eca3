"""`python -m vaebm`: the command line where the `vaebm` script is not on the path."""

import sys

from vaebm.cli import main

sys.exit(main())
