"""What accounts have in common is held once, and an account that was read from its JSON shares it too."""

import msgspec

from debt_mgmt.core.account import EMPTY, EMPTY_FIELDS, Account, sharing
from tests.support.desk import Desk
from tests.support.scenario import play


def test_an_account_holds_nothing_of_its_own_where_it_has_nothing() -> None:
    desk = Desk()
    desk.open("alice", 10_000)
    account = desk.account("alice")
    assert {name for name in EMPTY_FIELDS if getattr(account, name) is not EMPTY} == {"balances"}


def test_an_account_that_was_read_shares_it_too_and_is_the_same() -> None:
    desk = play("""
        deposit  alice 10000 USDT
        mark     ABCUSDT 100
        fill     alice buy 50 ABCUSDT
        reserve  alice buy 10 ABCUSDT
        """)
    account = desk.account("alice")
    read = msgspec.json.decode(msgspec.json.encode(account), type=Account)
    assert sharing(read) == account
    assert msgspec.json.encode(sharing(read)) == msgspec.json.encode(account)
    assert sharing(read).debts is EMPTY
    assert sharing(read).currency is account.currency


def test_a_map_that_becomes_empty_is_the_shared_one_again() -> None:
    desk = play("""
        deposit  alice 10000 USDT
        mark     ABCUSDT 100
        fill     alice buy 50 ABCUSDT
        fill     alice sell 50 ABCUSDT
        """)
    assert desk.account("alice").positions is EMPTY
