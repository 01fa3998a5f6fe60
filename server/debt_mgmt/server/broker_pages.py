"""The page that is made from the profiles of exchanges: docs/brokers.md."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from debt_mgmt.server.brokers.credentials import FILE_SUFFIX, variable_of
from debt_mgmt.server.brokers.profiles import (
    PROFILES,
    CredentialForm,
    Feature,
    LeveragePath,
    MarginModePath,
    MarkSource,
    ReducePath,
    Testnet,
    TierSource,
    VenueProfile,
)

MADE_BY = "Made by `make generate` from server/debt_mgmt/server/brokers/profiles.py: change it there."

FEATURES = {
    Feature.SET_LEVERAGE: "set the leverage",
    Feature.SET_MARGIN_MODE: "set the margin mode",
    Feature.ADJUST_ISOLATED_MARGIN: "post or take back isolated margin",
    Feature.HEDGE_MODE: "hedge mode",
    Feature.REDUCE_ONLY: "reduce-only orders",
    Feature.BORROW: "borrow and repay",
    Feature.MARK_PRICE: "mark prices",
    Feature.ACCOUNT_STREAM: "pushes of the account",
}
TESTNETS = {Testnet.NONE: "none", Testnet.SANDBOX: "test network", Testnet.DEMO: "demo trading"}
LEVERAGES = {
    LeveragePath.NONE: "not at all",
    LeveragePath.ENDPOINT: "per symbol, by a call",
    LeveragePath.ACCOUNT_ENDPOINT: "for the account, by a call",
    LeveragePath.ORDER_PARAMETER: "with each order",
}
MODES = {
    MarginModePath.NONE: "fixed",
    MarginModePath.ACCOUNT: "for the account",
    MarginModePath.SYMBOL: "per symbol",
    MarginModePath.WITH_LEVERAGE: "with the leverage",
}
REDUCING = {
    ReducePath.REDUCE_ONLY: "market order, reduce-only",
    ReducePath.EXECUTION_INSTRUCTION: "market order, exec_inst REDUCE_ONLY, after a look at the position",
    ReducePath.CLOSE_POSITION: "close-position call with a size, after a look at the position",
}
MARKS = {
    MarkSource.MARK_PRICE: "mark price",
    MarkSource.TICKER: "mark price, in the ticker",
    MarkSource.VALUATION: "mark price, in the valuations",
    MarkSource.LAST_PRICE: "last trade, marked as such",
}
TIERS = {
    TierSource.NOTIONAL: "as published",
    TierSource.CONTRACTS: "as published, in contracts: turned into notional at the mark, every hour",
    TierSource.LEVERAGE_MAX: "one: the instrument's highest leverage, half its margin to keep",
    TierSource.LEVERAGE_LIST: "one: the pair's leverages and the venue's liquidation rule at the lowest",
    TierSource.NONE: "one: the house's own",
}
FORMS = {
    CredentialForm.TEXT: "",
    CredentialForm.BASE64: "base64, as shown",
    CredentialForm.PRIVATE_KEY: "private key in PEM; `\\n` may stand for line ends",
}

INTRODUCTION = f"""\
<!-- {MADE_BY} -->
# Exchanges

Six exchanges stand behind one broker and one table of profiles; this page is made from that table, and `ListBrokers`
(`debt-mgmt brokers`) answers from it. What an exchange can't do is answered UNIMPLEMENTED with the reason given here;
nothing is asked of it. Sandbox accounts need none of this.

Instruments of an exchange are named after it, `bybit:BTCUSDT`, with its own contract size, lot, tick, tiers and marks.
A figure that an exchange does not tell is absent, never zero. Where something can't be read, or is not understood, the
whole reading fails, the account's level becomes UNKNOWN with the reason, and its last state keeps its age.
"""

ROAD = """\
## From sandbox to testnet to live

1. **Sandbox.** `debt-mgmt serve --feed bybit:BTCUSDT,ETHUSDT` prices sandbox accounts by an exchange's public marks.
   No key is needed and no order can leave.
2. **A test bench.** `debt-mgmt venue-simulator bybit --seed-account` is the exchange on this machine, with faults on
   demand: see [test-bench.md](test-bench.md). The client, the requests and the errors are those of the real one.
3. **Testnet**, where the exchange has one: `brokers.bybit.enabled: true` and `testnet: true`, with a key of the test
   system (`BYBIT_API_KEY`, `BYBIT_API_SECRET`). `debt-mgmt accounts create alice-test --broker bybit --environment
   testnet`, then `debt-mgmt accounts sync alice-test` until the differences are what you expect.
   What is held there can be closed at once. **Nothing can be opened** until each instrument is opened on purpose, for
   one that was never there before starts at zero: `debt-mgmt limits set --instrument bybit:BTCUSDT
   --name new-instrument max_position_quantity=1 --reason 'tried'` ([limits.md](limits.md#new-instruments)).
   `debt-mgmt limits tree` shows those that are still closed. The same holds at step 4 for what was not there before.
4. **Live, watching.** `testnet: false` and a key that may **only read**. `debt-mgmt accounts create alice-live --broker
   bybit --environment live`: the account is in dry run, so reductions are planned and recorded, and none is sent. Leave
   it so for as long as it takes to trust the drift alerts, which set our margin, equity and liquidation price beside
   the exchange's.
5. **Live, protecting.** Give the key the right to trade, and nothing more; bind it to the machine's address where the
   exchange allows it. `debt-mgmt accounts dry-run alice-live off --reason '…'` is kept in the audit with who said it.

A key is of one world: an account is LIVE or TESTNET, `brokers.<name>.testnet` says which of them the configured key is
for, and an account of the other kind is refused.

## Orders

Only reduce-only orders are sent, at the market, rounded down to the exchange's lot. Their ids are made from the place
of the plan in the journal (`liq-1-7-1`) and a tag of the account, so a repeat is recognised and a journal that begins
anew does not take an old order for its own. An order whose answer is lost is looked up by that id before anything is
sent again; on exchanges that take an id twice it is looked up before it is sent at all. Leverage, margin and loans are
asked for once and read back; an unknown outcome is said, never repeated.

## Pace and clock

Requests are counted in the exchange's own weights. A share of the budget is kept for orders that reduce, cancels and
looking them up; reading accounts and prices can't use it. "Too many requests" pauses everything towards that exchange
for as long as it says. The exchange's clock is measured at each connection; Kraken counts requests instead, and
Crypto.com and Coinbase are signed with this machine's time, so keep it right.
"""


def render() -> str:
    """The page."""
    parts = [INTRODUCTION, overview(), capabilities(), keys(), ROAD]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def overview() -> str:
    rows: list[tuple[str, Callable[[VenueProfile], str]]] = [
        ("traded here", lambda one: one.products),
        ("test system", lambda one: TESTNETS[one.testnet]),
        ("leverage is set", lambda one: LEVERAGES[one.leverage_path]),
        ("in steps of", lambda one: str(one.leverage_step)),
        ("margin mode is set", lambda one: MODES[one.margin_mode_path]),
        ("a position is reduced by", lambda one: REDUCING[one.reduce_path]),
        ("prices", lambda one: MARKS[one.mark_source]),
        ("risk tiers", lambda one: TIERS[one.tier_source]),
        ("its totals are in", lambda one: one.health_currency),
        ("interest is charged every", lambda one: hours(one.interest_interval_seconds)),
        ("order ids", lambda one: f"at most {one.client_order_ids.length_most} characters"),
        ("an account is read every", lambda one: f"{one.max_state_age_seconds // 3} s, and when it is pushed to"),
    ]
    profiles = list(PROFILES.values())
    lines = ["## Side by side", "", row("", *(one.display_name for one in profiles)), rule(len(profiles) + 1)]
    lines += [row(name, *(tell(one) for one in profiles)) for name, tell in rows]
    notes = [f"- {one.display_name}: {one.testnet_note}." for one in profiles if one.testnet_note]
    return "\n".join([*lines, "", "About the test systems:", "", *notes])


def capabilities() -> str:
    profiles = list(PROFILES.values())
    lines = ["## What each can do", "", row("", *(one.display_name for one in profiles)), rule(len(profiles) + 1)]
    lines += [
        row(name, *("yes" if one.can(feature) else "–" for one in profiles)) for feature, name in FEATURES.items()
    ]
    lines += ["", "What to know about it, or why not:", ""]
    for one in profiles:
        told = [f"{FEATURES[found.feature]}: {found.note}" for found in one.capabilities if found.note]
        lines.append(f"- **{one.display_name}** {'; '.join(told)}.")
    return "\n".join(lines)


def keys() -> str:
    """What a key is made of, and what it must be allowed to do."""
    lines = [
        "## Keys",
        "",
        "From the environment, or from files: each name may end in `_FILE` and hold a path instead. They are checked",
        "for their form before anything is sent, and appear in no log, message or error. Begin with a key that may",
        "only read.",
        "",
        row("", "environment", "to watch an account", "to protect it, besides"),
        rule(4),
    ]
    for one in PROFILES.values():
        names = [named(one, place) for place in range(len(one.credentials))]
        lines.append(row(one.display_name, ", ".join(names), one.key_read, one.key_trade))
    return "\n".join([*lines, "", f"For instance `BYBIT_API_SECRET{FILE_SUFFIX}=/run/secrets/bybit`."])


def named(profile: VenueProfile, place: int) -> str:
    part = profile.credentials[place]
    form = FORMS[part.form]
    return f"`{variable_of(profile, part)}`" + (f" ({form})" if form else "")


def hours(seconds: int | None) -> str:
    if seconds is None:
        return "–"
    return "hour" if seconds == 3600 else f"{seconds // 3600} hours"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def rule(columns: int) -> str:
    return "|" + "---|" * columns


PAGES: Mapping[str, Callable[[], str]] = {"docs/brokers.md": render}


def main() -> None:
    """Writes the page below the working directory (--write), or fails where it is not what it should be."""
    arguments = argparse.ArgumentParser(prog="python -m debt_mgmt.server.broker_pages", description=__doc__)
    arguments.add_argument("--write", action="store_true", help="write the page instead of comparing it")
    write = arguments.parse_args().write
    for name, make in PAGES.items():
        page, text = Path(name), make()
        if page.is_file() and page.read_text("utf-8") == text:
            continue
        if not write:
            sys.exit(f"not what the profiles say: {name}; run `make generate`")
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
