-- Batches of vouchers. Their codes are nowhere: `hash` is keyed.
CREATE TABLE voucher_batch (
    id INTEGER PRIMARY KEY,
    zone TEXT,            -- NULL is good in every zone
    count INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    length_ms INTEGER NOT NULL,
    limits TEXT NOT NULL, -- JSON: what differs from the zone's
    expires INTEGER,
    boot INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    at INTEGER
);
CREATE INDEX voucher_batch_unplaced ON voucher_batch (boot) WHERE at IS NULL;

CREATE TABLE voucher (
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    revoked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, number)
) WITHOUT ROWID;

-- Who used what, and when. A use that came to nothing is taken out.
CREATE TABLE voucher_use (
    session INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    mac BLOB NOT NULL,
    boot INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    at INTEGER
);
CREATE INDEX voucher_use_unplaced ON voucher_use (boot) WHERE at IS NULL;
