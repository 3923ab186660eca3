"""The command line: one verb, one file.

Nothing heavy is imported until a verb runs, so that `vaebm --help` answers at once. `app` joins the verbs, `options`
holds what their command lines share, `results` prints measurements, `failures` turns whatever goes wrong into one line
and an exit status.
"""

from vaebm.cli.app import main

__all__ = ["main"]
