"""Who asks: kept with every event that follows."""

import msgspec


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The caller's name, role and network peer."""

    name: str
    role: str = ""
    peer: str = ""


SYSTEM = Actor("debt-mgmt", "system")
"""The service itself: assessments, expiries, forced reductions."""
