-- The journal, its snapshots and the facts about this schema.
-- depends:

-- migrate: apply

-- Facts chosen once per schema, such as the number of shards, and the counter of writer epochs.
CREATE TABLE meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

-- One row is one event. The primary key is the fence: a writer that lost its log fails as a whole.
-- The payload is json and not jsonb on purpose: json keeps the text exactly as it was written, and the
-- chain of hashes is computed over that text. jsonb would reorder keys and no hash would verify.
-- Times come from the writer, never from the database: a replay must see what was decided on.
CREATE TABLE journal (
    shard integer NOT NULL,
    position bigint NOT NULL,
    epoch bigint NOT NULL,
    at timestamptz NOT NULL,
    account_id text NOT NULL,
    request_id text NOT NULL,
    request_digest bytea,
    actor text NOT NULL,
    kind text NOT NULL,
    payload json NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (shard, position)
);

-- The audit of one account reads its rows in log order.
CREATE INDEX journal_account ON journal (account_id, shard, position);

-- The state of one shard as of a position, in parts. A cache of the journal: it may be deleted at any time.
CREATE TABLE snapshot (
    shard integer NOT NULL,
    position bigint NOT NULL,
    part integer NOT NULL,
    body bytea NOT NULL,
    fingerprint bytea NOT NULL,
    code_version text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (shard, position, part)
);

-- migrate: rollback

DROP TABLE snapshot;
DROP TABLE journal;
DROP TABLE meta;
