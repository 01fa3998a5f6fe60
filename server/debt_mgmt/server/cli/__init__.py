"""The command line `debt-mgmt`."""

from debt_mgmt.server.cli.program import main

__all__ = ["main"]
