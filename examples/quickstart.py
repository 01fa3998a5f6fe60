"""A check, a reservation, a fill and a watch: run it beside `debt-mgmt serve --demo`."""

from uuid import uuid4

from debt_mgmt.client import Order, Refused, SyncMarginClient, Update

UPDATES = 5


def main() -> None:
    """Buys 0.01 BTCUSDT for the account demo, then looks on for a while."""
    with SyncMarginClient.from_env() as client:
        order = Order.buy("BTCUSDT", "0.01")

        check = client.check_order("demo", order)  # does it fit, why not, how large could it be
        print("fits" if check.fits else "refused", "· needs", check.margin_required, "· largest buy", check.largest_buy)

        try:
            held = client.reserve("demo", order).raise_if_refused()  # its margin is held while the order is out
        except Refused as refused:
            print(refused)
        else:
            price = client.marks(symbols=["BTCUSDT"])[0].price  # what the exchange would report
            client.record_fill(
                "demo", "BTCUSDT", "buy", "0.01", price, fill_id=str(uuid4()), reservation_id=held.reservation_id
            )

        seen = 0
        with client.watch_margin(["demo"]) as watch:  # reconnects, resumes, says when it is stale
            for event in watch:
                if isinstance(event, Update):
                    print(event.status.margin_utilization, event.status.level)
                    seen += 1
                if seen == UPDATES:
                    return


if __name__ == "__main__":
    main()
