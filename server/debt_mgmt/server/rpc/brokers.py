"""The capability matrix on the wire: what each broker can do, and why one can't be used here."""

from debt_mgmt.core.account import Account, Environment
from debt_mgmt.core.faults import Fault, FaultReason
from debt_mgmt.core.money import text
from debt_mgmt.core.settings import RiskSettings
from debt_mgmt.server.brokers.profiles import PROFILES, Feature, LeveragePath, Testnet, VenueProfile
from debt_mgmt.server.live.venues import Venues
from debt_mgmt.server.rpc import convert
from debt_mgmt.server.rpc.names import Names
from debt_mgmt.v1 import account_service_pb2 as wire

PAPER = "paper"
BROKERS = sorted({PAPER, *PROFILES})

TESTNET = Names(Testnet, wire.Testnet, "TESTNET")
LEVERAGE_PATH = Names(LeveragePath, wire.LeveragePath, "LEVERAGE_PATH")
FEATURE = Names(Feature, wire.BrokerFeature, "BROKER_FEATURE")

PAPER_LACKS = {
    Feature.MARK_PRICE: "it has no market of its own: PublishMarks gives the prices",
    Feature.ACCOUNT_STREAM: "there is nothing to push: this service keeps the account itself",
}


def broker_message(broker: str, settings: RiskSettings, venues: Venues) -> wire.Broker:
    profile = PROFILES.get(broker)
    return paper_message(settings) if profile is None else venue_message(profile, settings, venues)


def cap_of(broker: str, settings: RiskSettings) -> str:
    return text(min(settings.max_leverage, settings.broker_max_leverage.get(broker, settings.max_leverage)))


def paper_message(settings: RiskSettings) -> wire.Broker:
    return wire.Broker(
        broker=PAPER,
        display_name="Paper trading in this service",
        enabled=True,
        max_leverage=cap_of(PAPER, settings),
        leverage_step="0.01",
        testnet=wire.TESTNET_NONE,
        leverage_path=wire.LEVERAGE_PATH_ENDPOINT,
        capabilities=[
            wire.BrokerCapability(
                feature=number, supported=feature not in PAPER_LACKS, note=PAPER_LACKS.get(feature, "")
            )
            for feature, number in FEATURE.wire.items()
        ],
    )


def venue_message(profile: VenueProfile, settings: RiskSettings, venues: Venues) -> wire.Broker:
    """One exchange. It is usable where accounts on it, or on its test network, could be opened now."""
    problems = [venues.problem(profile.broker, one) for one in (Environment.LIVE, Environment.TESTNET)]
    enabled = not all(problems)
    return wire.Broker(
        broker=profile.broker,
        display_name=profile.display_name,
        enabled=enabled,
        disabled_reason="" if enabled else problems[0],
        max_leverage=cap_of(profile.broker, settings),
        leverage_step=text(profile.leverage_step),
        testnet=TESTNET.wire[profile.testnet],
        leverage_path=LEVERAGE_PATH.wire[profile.leverage_path],
        capabilities=[
            wire.BrokerCapability(
                feature=number,
                supported=profile.capability(feature).supported,
                note=profile.capability(feature).note,
            )
            for feature, number in FEATURE.wire.items()
        ],
        max_state_age=convert.duration(settings.live_state_max_age),
    )


def must_lend(account: Account) -> bool:
    """Whether the venue of a live account lends in a wallet apart. Raises Fault where it does not lend at all."""
    must_be_able(account, Feature.BORROW)
    if account.sync is None or not PROFILES[account.broker].loans_apart:
        return False
    if account.environment is not Environment.LIVE:
        words = f"{PROFILES[account.broker].display_name} can't do this: its test system has no margin wallet"
        raise Fault(FaultReason.NOT_IMPLEMENTED, words, broker=account.broker, feature=Feature.BORROW.value)
    return True


def must_be_able(account: Account, feature: Feature) -> None:
    """Raises Fault NOT_IMPLEMENTED, with the reason, where the venue of a live account has no such thing."""
    profile = PROFILES.get(account.broker) if account.sync is not None else None
    if profile is None or profile.can(feature):
        return
    words = f"{profile.display_name} can't do this: {profile.capability(feature).note}"
    raise Fault(FaultReason.NOT_IMPLEMENTED, words, broker=account.broker, feature=feature.value)
