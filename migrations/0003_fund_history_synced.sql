-- What the venue of a live account turned out to have otherwise, as a cause of its own.
-- depends: 0002_fund_history

-- migrate: apply

ALTER TABLE fund_history ADD COLUMN synced numeric NOT NULL DEFAULT 0;

-- migrate: rollback

ALTER TABLE fund_history DROP COLUMN synced;
