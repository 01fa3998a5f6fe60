"""Accounts at real venues: one supervisor an account, kept like its venue, and carrying to it what was decided."""
