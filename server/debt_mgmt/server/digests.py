"""What a repeated request id is compared with: a digest of the command, the same in every version."""

import hashlib

import msgspec

from debt_mgmt.core import commands as c

LATER_FIELDS: dict[type[c.Command], bytes] = {
    c.RecordFill: b',"strategy":""',
    c.HaltTrading: b',"by":""',
    c.HaltHouse: b',"account_id":"","strategy":"","symbol":"","by":""',
    c.ResumeHouse: b',"account_id":"","strategy":"","symbol":""',
    c.CarryOutChange: b',"effects":null',
}
"""Fields that commands were given later, at their defaults. They are left out, so that what an earlier version was
asked is recognised when it is asked again."""


def digest_of(command: c.Command) -> bytes:
    """What a repeated request id is compared with."""
    content = msgspec.json.encode(command)
    later = LATER_FIELDS.get(type(command), b"") + b"}"
    if content.endswith(later):
        content = content.removesuffix(later) + b"}"
    return hashlib.blake2b(content, digest_size=16).digest()
