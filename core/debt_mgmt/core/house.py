"""The house's own log: instruments, asset rules and halts, with how its commands are decided and its events applied."""

from datetime import datetime

import msgspec

from debt_mgmt.core import changes as ch
from debt_mgmt.core.access import AccessToken
from debt_mgmt.core.commands import (
    ApproveChange,
    CarryOutChange,
    Command,
    DeleteLimitSet,
    ExpireChanges,
    HaltHouse,
    IssueToken,
    ProposeChange,
    PublishFundingRate,
    PutInstrument,
    PutLimitSet,
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
    LimitSetDeleted,
    LimitSetPut,
    ResetScheduleSet,
    SettingChange,
    SignInFailed,
    TokenIssued,
    TokenRevoked,
    TokenRotated,
    TradingHalted,
    TradingResumed,
)
from debt_mgmt.core.halts import Halt as Halt
from debt_mgmt.core.instrument import Instrument
from debt_mgmt.core.interest import CLOCKS, BorrowRate
from debt_mgmt.core.limit_sets import NEW_INSTRUMENT, LimitSet, NodeLimits, key_of, loosens
from debt_mgmt.core.market import AssetRule, FundingRate
from debt_mgmt.core.money import ZERO
from debt_mgmt.core.refusals import Reason, Violation
from debt_mgmt.core.resets import ResetSchedule
from debt_mgmt.core.scope import Scope
from debt_mgmt.core.settings import NewInstruments, RiskSettings

EVERYONE = ""
HOUSE_KEY = "house"
FUNDING_RATES_KEPT = 200
"""Per instrument: at eight hours, more than two months for an account to be settled late."""


class House(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all accounts share. A halt's key is that of its scope: the owner it concerns, empty for everyone."""

    instruments: dict[str, Instrument] = {}
    assets: dict[str, AssetRule] = {}
    halts: dict[str, Halt] = {}
    borrow_rates: dict[str, tuple[BorrowRate, ...]] = {}
    """By asset, ascending in time."""
    funding_rates: dict[str, tuple[FundingRate, ...]] = {}
    """By symbol, ascending in time, the latest FUNDING_RATES_KEPT."""
    reset_schedule: ResetSchedule = ResetSchedule()
    reset_schedule_since: datetime | None = None
    limit_sets: dict[str, LimitSet] = {}
    """By key; see `limit_sets.key_of`."""
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
        """The halt of everything, or of all accounts of the owner."""
        return self.halts.get(EVERYONE) or self.halts.get(owner)


def decide_house(house: House | None, command: Command, at: datetime, position: int = 0) -> tuple[HouseEvent, ...]:
    """Events that follow from a command to the house; `position` is where the first of them will be in its log.

    Putting what is already there changes nothing.
    """
    house = house or House()
    match command:
        case PutInstrument():
            return instrument_put(house, command, at)
        case PutLimitSet(limit_set=limit_set):
            known = house.limit_sets.get(limit_set.key)
            if known is not None and known.says(limit_set):
                return ()
            return (LimitSetPut(msgspec.structs.replace(limit_set, at=at)),)
        case DeleteLimitSet(scope=scope, name=name, reason=reason):
            known = house.limit_sets.get(key_of(scope, name))
            if known is None:
                subject = f"{name or 'standing'} of {scope.words}"
                return (CommandRefused("DeleteLimitSet", (Violation(Reason.LIMIT_SET_NOT_FOUND, subject),)),)
            return (LimitSetDeleted(known, reason, at),)
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
        case HaltHouse() | ResumeHouse():
            return halt_changed(house, command, at)
        case IssueToken() | RotateToken() | RevokeToken():
            return token_changed(house, command, at)
        case ProposeChange():
            return change_proposed(house, command, at, position)
        case ApproveChange() | RejectChange():
            return change_decided(house, command, at)
        case ExpireChanges():
            waiting = [one for one in house.changes.values() if one.state is ch.ChangeState.PENDING]
            return tuple(ChangeExpired(one.change_id, at) for one in waiting if not one.waits(at))
        case CarryOutChange(change_id=change_id, asked=approved):
            asked = read_command(approved)
            outgrown = ch.outgrown(change_id, command.effects, effects_on_house(house, asked))
            if outgrown is not None:
                return (CommandRefused(type(asked).__name__, (outgrown,)),)
            return decide_house(house, asked, at, position)
        case RecordChangeOutcome(change_id=change_id, violations=violations):
            change = house.changes.get(change_id)
            return () if change is None or not change.is_due else (ChangeCarriedOut(change_id, at, violations),)
    raise AssertionError(f"not a command to the house: {command!r}")


def instrument_put(house: House, command: PutInstrument, at: datetime) -> tuple[HouseEvent, ...]:
    """The instrument; one that was not there before at zero, where the rules say so."""
    instrument, symbol = command.instrument, command.instrument.symbol
    before = house.instruments.get(symbol)
    if before == instrument:
        return ()
    put = InstrumentPut(instrument=instrument)
    starts_at_zero = house.rules is not None and house.rules.new_instruments is NewInstruments.ZERO
    if before is not None or command.opened or not starts_at_zero:
        return (put,)
    nothing = NodeLimits(max_position_quantity=ZERO)
    reason = "a new instrument starts at zero"
    return put, LimitSetPut(LimitSet(Scope(symbol=symbol), NEW_INSTRUMENT, limits=nothing, reason=reason, at=at))


def halt_changed(house: House, command: HaltHouse | ResumeHouse, at: datetime) -> tuple[HouseEvent, ...]:
    """A halt of an instrument that is not known would stop nothing, so it is refused."""
    scope = Scope(command.owner, command.account_id, command.strategy, command.symbol)
    node = msgspec.structs.asdict(scope)
    if isinstance(command, HaltHouse):
        if scope.symbol and scope.symbol not in house.instruments:
            return (CommandRefused("HaltTrading", (Violation(Reason.UNKNOWN_INSTRUMENT, scope.symbol),)),)
        return (TradingHalted(**node, reason=command.reason, at=at, actor=command.by),)
    if scope.key not in house.halts:
        subject = scope.words if scope.key != scope.owner else scope.owner or "the house"
        return (CommandRefused("ResumeTrading", (Violation(Reason.ALREADY_IN_STATE, subject),)),)
    return (TradingResumed(**node, reason=command.reason, at=at),)


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
        effects = effects_on_house(house, asked)
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


def effects_on_house(house: House, command: Command) -> tuple[str, ...]:
    """What a command to the house would change that needs a second person; nothing where it needs none."""
    match command:
        case ResumeHouse(owner=owner, account_id=account_id, strategy=strategy, symbol=symbol):
            scope = Scope(owner, account_id, strategy, symbol)
            return (f"{scope.words} halted → resumed",) if scope.key in house.halts else ()
        case PutLimitSet(limit_set=limit_set):
            return loosens(house.limit_sets.get(limit_set.key), limit_set)
        case DeleteLimitSet(scope=scope, name=name):
            return loosens(house.limit_sets.get(key_of(scope, name)), None)
    return ()


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
        case TradingHalted():
            halt = Halt(
                event.owner, event.reason, event.at, event.account_id, event.strategy, event.symbol, event.actor
            )
            return msgspec.structs.replace(house, halts={**house.halts, halt.scope.key: halt})
        case TradingResumed():
            resumed = Scope(event.owner, event.account_id, event.strategy, event.symbol).key
            return msgspec.structs.replace(
                house, halts={key: halt for key, halt in house.halts.items() if key != resumed}
            )
        case LimitSetPut(limit_set=limit_set):
            return msgspec.structs.replace(house, limit_sets={**house.limit_sets, limit_set.key: limit_set})
        case LimitSetDeleted(limit_set=limit_set):
            left = {key: one for key, one in house.limit_sets.items() if key != limit_set.key}
            return msgspec.structs.replace(house, limit_sets=left)
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
        case ChangeApproved(change_id=change_id, at=at, by=by, note=note):
            approved = ch.decided(house.changes, change_id, ch.ChangeState.APPROVED, at, by, note)
            return msgspec.structs.replace(house, changes=approved)
        case ChangeRejected(change_id=change_id, at=at, by=by, note=note):
            rejected = ch.decided(house.changes, change_id, ch.ChangeState.REJECTED, at, by, note)
            return msgspec.structs.replace(house, changes=rejected)
        case ChangeExpired(change_id=change_id, at=at):
            expired = ch.decided(house.changes, change_id, ch.ChangeState.EXPIRED, at)
            return msgspec.structs.replace(house, changes=expired)
        case ChangeCarriedOut(change_id=change_id, at=at, violations=violations):
            done = ch.carried_out(house.changes, change_id, at, violations)
            return msgspec.structs.replace(house, changes=done)
        case CommandRefused() | SignInFailed():
            return house
    raise AssertionError(f"not an event of the house: {event!r}")
