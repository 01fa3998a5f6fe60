-- The journal in partitions by shard and position, and the state that takes the place of rows that were dropped.
-- depends: 0003_fund_history_synced

-- migrate: apply

-- What was written so far stays where it is and becomes the partition of every shard that has none of its own: no row
-- is copied. The service makes a partition for each shard whose log is empty, split by ranges of position.
ALTER TABLE journal RENAME TO journal_rest;
ALTER INDEX journal_pkey RENAME TO journal_rest_pkey;
ALTER INDEX journal_account RENAME TO journal_rest_account;

CREATE TABLE journal (LIKE journal_rest, PRIMARY KEY (shard, position)) PARTITION BY LIST (shard);
CREATE INDEX journal_account ON journal (account_id, shard, position);
ALTER TABLE journal ATTACH PARTITION journal_rest DEFAULT;

-- The state of a shard as of the last position that was exported and dropped, in parts. Unlike a snapshot it is not a
-- cache: the log goes on from it.
CREATE TABLE log_base (LIKE snapshot, PRIMARY KEY (shard, position, part));

-- migrate: rollback

DROP TABLE log_base;
CREATE TABLE journal_again (LIKE journal, PRIMARY KEY (shard, position));
INSERT INTO journal_again SELECT * FROM journal;
DROP TABLE journal;
ALTER TABLE journal_again RENAME TO journal;
ALTER INDEX journal_again_pkey RENAME TO journal_pkey;
CREATE INDEX journal_account ON journal (account_id, shard, position);
