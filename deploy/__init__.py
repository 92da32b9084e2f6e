"""Greenroom: blue-green deploys of docker compose apps to many hosts over SSH."""

import sys

__version__ = "0.1.0"

# Invoke turns this off, so that no tasks.pyc lies about (its --write-pyc). A package that lies beside tasks.py would be
# compiled anew by each start, which takes as long as half of its imports.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
