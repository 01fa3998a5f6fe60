"""How often venues are asked, how long they are waited for, and how long nobody is asked after a failure."""

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """All in seconds. The poll interval of an account is its venue's own, unless one is given here."""

    poll_seconds: float | None = None
    """An account is read this often where nothing is pushed; None: three times within its venue's max_state_age."""
    mark_poll_seconds: float = 2.0
    """A mark that was not pushed for so long is asked for."""
    connect_seconds: float = 60.0
    """Loading a venue's markets may take so long."""
    call_seconds: float = 15.0
    """Any other call."""
    between_seconds: float = 0.25
    """Two reads of an account begin at least so far apart, however much is pushed."""
    retry_seconds: float = 0.5
    """A read that failed is tried once more after this; then the venue's side counts as lost."""
    backoff_seconds_min: float = 1.0
    backoff_seconds_max: float = 60.0
    quiet_seconds: float = 5.0
    """An account is not read while the outcome of an order of ours is unknown, but no longer put off than this."""
    terms_seconds: float = 3600.0
    """Terms and risk tiers of instruments are read again after this."""
    pending_seconds_most: float = 60.0
    """A change that could not be sent for so long is given up: nobody expects it any more."""
    look_seconds: float = 1.0
    """Between two looks at what became of a change whose answer was lost."""
    looks: int = 3
    apart_seconds: float = 30.0
    """A wallet that backs no position is read this often, and whenever somebody asks for a read."""
