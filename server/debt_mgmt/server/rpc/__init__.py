"""The wire: one file per service, with what reads requests, writes answers and names errors."""
