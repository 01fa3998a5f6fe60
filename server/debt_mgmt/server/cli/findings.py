"""What an examination finds: about what, how it stands, in words, and what to do about it."""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    OK = "ok"
    WRONG = "WRONG"
    OFF = "OFF"
    """A protection that nobody switched on, or somebody off."""
    UNKNOWN = "unknown"
    """It could not be looked at from here."""


STYLES = {State.OK: "green", State.WRONG: "bold red", State.OFF: "bold yellow", State.UNKNOWN: "magenta"}


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    state: State
    words: str
    remedy: str = ""


def fine(subject: str, words: str) -> Finding:
    return Finding(subject, State.OK, words)


def wrong(subject: str, words: str, remedy: str = "") -> Finding:
    return Finding(subject, State.WRONG, words, remedy)


def off(subject: str, words: str, remedy: str = "") -> Finding:
    return Finding(subject, State.OFF, words, remedy)


def skipped(subject: str, words: str, remedy: str = "") -> Finding:
    return Finding(subject, State.UNKNOWN, words, remedy)
