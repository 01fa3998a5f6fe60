"""What all events have in common."""

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="event", kw_only=True, gc=False):
    """Base of all events. The class name is the event's kind in the journal and never changes.

    `figures`, where an event has them, show the account after the whole command: a repeat is answered alike.
    `causes` tell by how much an event that moves money changed equity, and why; None: by nothing but prices.
    """

    inputs: msgspec.Raw = msgspec.Raw()
    """On the first event of a decision: what it was made on. See `inputs.Inputs`; read only to explain."""
