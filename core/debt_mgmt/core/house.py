"""The house's own log: instruments, asset rules and halts, with how its commands are decided and its events applied."""

from datetime import datetime

import msgspec

from debt_mgmt.core.commands import (
    Command,
    HaltHouse,
    PutInstrument,
    ResumeHouse,
    SetAssetRule,
    SetResetSchedule,
)
from debt_mgmt.core.events import (
    AssetRuleSet,
    CommandRefused,
    Event,
    HouseEvent,
    InstrumentPut,
    ResetScheduleSet,
    TradingHalted,
    TradingResumed,
)
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.market import AssetRule
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.resets import ResetSchedule

EVERYONE = ""
HOUSE_KEY = "house"


class Halt(msgspec.Struct, frozen=True):
    owner: str
    reason: str
    at: datetime


class House(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all accounts share. A halt's key is the owner it concerns, empty for everyone."""

    instruments: dict[str, Instrument] = {}
    assets: dict[str, AssetRule] = {}
    halts: dict[str, Halt] = {}
    reset_schedule: ResetSchedule = ResetSchedule()
    reset_schedule_since: datetime | None = None

    def halt_for(self, owner: str) -> Halt | None:
        return self.halts.get(EVERYONE) or self.halts.get(owner)


def decide_house(house: House | None, command: Command, at: datetime) -> tuple[HouseEvent, ...]:
    """Events that follow from a command to the house. Putting what is already there changes nothing."""
    house = house or House()
    match command:
        case PutInstrument(instrument=instrument):
            if house.instruments.get(instrument.symbol) == instrument:
                return ()
            return (InstrumentPut(instrument=instrument),)
        case SetAssetRule(rule=rule):
            if house.assets.get(rule.asset) == rule:
                return ()
            return (AssetRuleSet(rule=rule),)
        case SetResetSchedule(schedule=schedule):
            return () if house.reset_schedule == schedule else (ResetScheduleSet(schedule, at),)
        case HaltHouse(reason=reason, owner=owner):
            return (TradingHalted(owner=owner, reason=reason, at=at),)
        case ResumeHouse(reason=reason, owner=owner):
            if owner not in house.halts:
                return (
                    CommandRefused(
                        command="ResumeTrading",
                        violations=(Violation(Reason.ALREADY_IN_STATE, subject=owner or "the house"),),
                    ),
                )
            return (TradingResumed(owner=owner, reason=reason, at=at),)
    raise AssertionError(f"not a command to the house: {command!r}")


def apply_house(house: House | None, event: Event) -> House:
    """The house after one event."""
    house = house or House()
    match event:
        case InstrumentPut(instrument=instrument):
            return msgspec.structs.replace(house, instruments={**house.instruments, instrument.symbol: instrument})
        case AssetRuleSet(rule=rule):
            return msgspec.structs.replace(house, assets={**house.assets, rule.asset: rule})
        case ResetScheduleSet(schedule=schedule, at=at):
            return msgspec.structs.replace(house, reset_schedule=schedule, reset_schedule_since=at)
        case TradingHalted(owner=owner, reason=reason, at=at):
            return msgspec.structs.replace(house, halts={**house.halts, owner: Halt(owner, reason, at)})
        case TradingResumed(owner=owner):
            return msgspec.structs.replace(
                house, halts={key: halt for key, halt in house.halts.items() if key != owner}
            )
        case CommandRefused():
            return house
    raise AssertionError(f"not an event of the house: {event!r}")
