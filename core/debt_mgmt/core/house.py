"""The house's own log: instruments, asset rules and halts, with how its commands are decided and its events applied."""

from datetime import datetime

import msgspec

from debt_mgmt.core import changes as ch
from debt_mgmt.core.access import AccessToken
from debt_mgmt.core.commands import (
    ApproveChange,
    CarryOutChange,
    Command,
    ExpireChanges,
    HaltHouse,
    IssueToken,
    ProposeChange,
    PublishFundingRate,
    PutInstrument,
    RecordChangeOutcome,
    RecordConfiguration,
    RecordSignInFailure,
    RejectChange,
    ResumeHouse,
    RevokeToken,
    RotateToken,
    SetAssetRule,
    SetBorrowRate,
    SetResetSchedule,
    read_command,
)
from debt_mgmt.core.events import (
    AssetRuleSet,
    BorrowRateSet,
    ChangeApproved,
    ChangeCarriedOut,
    ChangeExpired,
    ChangeProposed,
    ChangeRejected,
    CommandRefused,
    ConfigurationChanged,
    Event,
    FundingRatePublished,
    HouseEvent,
    InstrumentPut,
    ResetScheduleSet,
    SettingChange,
    SignInFailed,
    TokenIssued,
    TokenRevoked,
    TokenRotated,
    TradingHalted,
    TradingResumed,
)
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.interest import CLOCKS, BorrowRate
from debt_mgmt.core.market import AssetRule, FundingRate
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.resets import ResetSchedule
from debt_mgmt.core.settings import RiskSettings

EVERYONE = ""
HOUSE_KEY = "house"
FUNDING_RATES_KEPT = 200
"""Per instrument: at eight hours, more than two months for an account to be settled late."""


class Halt(msgspec.Struct, frozen=True):
    owner: str
    reason: str
    at: datetime


class House(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all accounts share. A halt's key is the owner it concerns, empty for everyone."""

    instruments: dict[str, Instrument] = {}
    assets: dict[str, AssetRule] = {}
    halts: dict[str, Halt] = {}
    borrow_rates: dict[str, tuple[BorrowRate, ...]] = {}
    """By asset, ascending in time."""
    funding_rates: dict[str, tuple[FundingRate, ...]] = {}
    """By symbol, ascending in time, the latest FUNDING_RATES_KEPT."""
    reset_schedule: ResetSchedule = ResetSchedule()
    reset_schedule_since: datetime | None = None
    tokens: dict[str, AccessToken] = {}
    """By name, with those that have ended."""
    configuration: dict[str, str] = {}
    """Every setting that the service runs with, the secret ones as digests."""
    rules: RiskSettings | None = None
    """What is decided by; None in logs of versions that did not tell."""
    version: str = ""
    changes: dict[str, ch.ProposedChange] = {}
    """Those that wait for a second person, and the last ones that did, in the order in which they were proposed."""

    def halt_for(self, owner: str) -> Halt | None:
        return self.halts.get(EVERYONE) or self.halts.get(owner)


def decide_house(house: House | None, command: Command, at: datetime, position: int = 0) -> tuple[HouseEvent, ...]:
    """Events that follow from a command to the house; `position` is where the first of them will be in its log.

    Putting what is already there changes nothing.
    """
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
        case SetBorrowRate():
            return borrow_rate_set(house, command, at)
        case PublishFundingRate():
            return funding_rate_published(house, command, at)
        case RecordConfiguration():
            return configuration_recorded(house, command, at)
        case RecordSignInFailure():
            told = msgspec.structs.asdict(command)
            return (SignInFailed(**told, at=at),)
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
        case IssueToken() | RotateToken() | RevokeToken():
            return token_changed(house, command, at)
        case ProposeChange():
            return change_proposed(house, command, at, position)
        case ApproveChange() | RejectChange():
            return change_decided(house, command, at)
        case ExpireChanges():
            waiting = [one for one in house.changes.values() if one.state is ch.ChangeState.PENDING]
            return tuple(ChangeExpired(one.change_id, at) for one in waiting if not one.waits(at))
        case CarryOutChange(asked=approved):
            return decide_house(house, read_command(approved), at, position)
        case RecordChangeOutcome(change_id=change_id, violations=violations):
            known = house.changes.get(change_id)
            return () if known is None or not known.is_due else (ChangeCarriedOut(change_id, at, violations),)
    raise AssertionError(f"not a command to the house: {command!r}")


def configuration_recorded(house: House, command: RecordConfiguration, at: datetime) -> tuple[HouseEvent, ...]:
    """What is otherwise than at the last start; nothing where nothing is."""
    before, after = house.configuration, command.values
    changes = tuple(
        SettingChange(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )
    if not changes and (house.rules, house.version) == (command.rules, command.version):
        return ()
    return (ConfigurationChanged(changes, command.rules, command.version, at),)


def token_changed(
    house: House, command: IssueToken | RotateToken | RevokeToken, at: datetime
) -> tuple[HouseEvent, ...]:
    """One good token of each name; the name of one that has ended may be used again."""
    known = house.tokens.get(command.name)
    if known is not None and not known.is_good(at):
        known = None
    if isinstance(command, IssueToken):
        if known is not None:
            return (CommandRefused("IssueToken", (Violation(Reason.TOKEN_EXISTS, command.name),)),)
        token = AccessToken(
            command.name, command.digest, command.role, at, command.accounts, command.expires_at, note=command.note
        )
        return (TokenIssued(token),)
    if known is None:
        return (CommandRefused(type(command).__name__, (Violation(Reason.TOKEN_NOT_FOUND, command.name),)),)
    if isinstance(command, RevokeToken):
        return (TokenRevoked(command.name, at, command.reason),)
    token = msgspec.structs.replace(
        known,
        digest=command.digest,
        rotated_at=at,
        previous_digest=known.digest if command.overlap is not None else "",
        previous_until=at + command.overlap if command.overlap is not None else None,
    )
    return (TokenRotated(token),)


def change_proposed(house: House, command: ProposeChange, at: datetime, position: int) -> tuple[HouseEvent, ...]:
    """The change waits. One of the house that its rules refuse, or that needs nobody else, is decided at once."""
    effects = command.effects
    if not command.account_id:
        asked = read_command(command.asked)
        events = decide_house(house, asked, at, position)
        effects = ch.effects_on_house(house, asked)
        if not effects or any(isinstance(one, CommandRefused) for one in events):
            return events
    change = ch.ProposedChange(
        change_id=f"change-{position}",
        account_id=command.account_id,
        command=command.asked,
        method=command.method,
        scope=command.scope,
        effects=effects,
        reason=command.reason,
        proposed_by=command.by,
        proposed_at=at,
        expires_at=at + command.waits,
    )
    return (ChangeProposed(change),)


def change_decided(house: House, command: ApproveChange | RejectChange, at: datetime) -> tuple[HouseEvent, ...]:
    violation = ch.decision(house.changes, command, at)
    if violation is not None:
        return (CommandRefused(type(command).__name__, (violation,)),)
    kind = ChangeApproved if isinstance(command, ApproveChange) else ChangeRejected
    return (kind(command.change_id, command.by, at, command.note),)


def borrow_rate_set(house: House, command: SetBorrowRate, at: datetime) -> tuple[HouseEvent, ...]:
    """The rate from now on; what was charged before stays charged."""
    rate = BorrowRate(command.asset, command.annual_rate, command.clock, at)
    known = house.borrow_rates.get(command.asset, ())
    if command.clock not in CLOCKS:
        violation = Violation(Reason.NOT_SUPPORTED, f"interest clock {command.clock}", note=", ".join(CLOCKS))
        return (CommandRefused("SetBorrowRate", (violation,)),)
    if known and (known[-1].annual_rate, known[-1].clock) == (rate.annual_rate, rate.clock):
        return ()
    return (BorrowRateSet(rate),)


def funding_rate_published(house: House, command: PublishFundingRate, at: datetime) -> tuple[HouseEvent, ...]:
    """Each instant once: the same rate again changes nothing, another one for a past instant is refused."""
    known = house.funding_rates.get(command.symbol, ())
    if any((one.at, one.rate) == (command.at, command.rate) for one in known):
        return ()
    if command.symbol not in house.instruments:
        violation = Violation(Reason.UNKNOWN_INSTRUMENT, command.symbol)
    elif known and command.at <= known[-1].at:
        violation = Violation(Reason.ALREADY_IN_STATE, command.symbol, note=f"funding is settled up to {known[-1].at}")
    elif command.at > at:
        violation = Violation(Reason.NOT_SUPPORTED, f"funding of {command.symbol}", note="its time has not come")
    elif command.mark is None:
        violation = Violation(Reason.MISSING_MARK, command.symbol)
    else:
        return (FundingRatePublished(FundingRate(command.symbol, command.rate, command.mark, command.at)),)
    return (CommandRefused("PublishFundingRate", (violation,)),)


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
        case BorrowRateSet(rate=rate):
            known = house.borrow_rates.get(rate.asset, ())
            return msgspec.structs.replace(house, borrow_rates={**house.borrow_rates, rate.asset: (*known, rate)})
        case FundingRatePublished(rate=funding):
            past = (*house.funding_rates.get(funding.symbol, ()), funding)[-FUNDING_RATES_KEPT:]
            return msgspec.structs.replace(house, funding_rates={**house.funding_rates, funding.symbol: past})
        case TradingHalted(owner=owner, reason=reason, at=at):
            return msgspec.structs.replace(house, halts={**house.halts, owner: Halt(owner, reason, at)})
        case TradingResumed(owner=owner):
            return msgspec.structs.replace(
                house, halts={key: halt for key, halt in house.halts.items() if key != owner}
            )
        case ConfigurationChanged(changes=changes, rules=rules, version=version):
            values = {**house.configuration, **{one.key: one.after for one in changes}}
            kept = {key: value for key, value in values.items() if value is not None}
            return msgspec.structs.replace(house, configuration=kept, rules=rules, version=version)
        case TokenIssued(token=token) | TokenRotated(token=token):
            return msgspec.structs.replace(house, tokens={**house.tokens, token.name: token})
        case TokenRevoked(name=name, at=at):
            ended = msgspec.structs.replace(house.tokens[name], revoked_at=at)
            return msgspec.structs.replace(house, tokens={**house.tokens, name: ended})
        case ChangeProposed(change=change):
            return msgspec.structs.replace(house, changes=ch.proposed(house.changes, change))
        case ChangeApproved():
            return msgspec.structs.replace(house, changes=ch.decided(house.changes, event, ch.ChangeState.APPROVED))
        case ChangeRejected():
            return msgspec.structs.replace(house, changes=ch.decided(house.changes, event, ch.ChangeState.REJECTED))
        case ChangeExpired():
            return msgspec.structs.replace(house, changes=ch.decided(house.changes, event, ch.ChangeState.EXPIRED))
        case ChangeCarriedOut():
            return msgspec.structs.replace(house, changes=ch.carried_out(house.changes, event))
        case CommandRefused() | SignInFailed():
            return house
    raise AssertionError(f"not an event of the house: {event!r}")
