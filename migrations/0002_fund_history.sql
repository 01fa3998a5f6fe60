-- The history of accounts, in a table made for reading.
-- depends: 0001_journal

-- migrate: apply

-- One row is one closed interval of one account: the journal's event EquityRecorded, nothing more. The table is written
-- behind the journal and may be emptied at any time: what it lacks is read from the journal at the next start.
-- Amounts are in the account's currency; NULL is not known.
CREATE TABLE fund_history (
    account_id text NOT NULL,
    ended_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    shard integer NOT NULL,
    position bigint NOT NULL,
    equity_before numeric,
    equity numeric,
    wallet_balance numeric,
    unrealized_pnl numeric,
    funding numeric NOT NULL,
    interest numeric NOT NULL,
    fees numeric NOT NULL,
    transfers numeric NOT NULL,
    liquidation_cost numeric NOT NULL,
    realized numeric NOT NULL,
    unpriced boolean NOT NULL,
    PRIMARY KEY (account_id, ended_at)
);

-- How far the table follows each log.
CREATE INDEX fund_history_place ON fund_history (shard, position);

-- migrate: rollback

DROP TABLE fund_history;
