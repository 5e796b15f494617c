-- A database as version 1 wrote it. Never changed: later versions must still read it.
PRAGMA page_size = 1024;
-- Times come in threes: `boot` and `..._ms` (that boot's clock), and wall milliseconds since 1970,
-- NULL until that boot's clock was trusted.
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE boot (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    offset INTEGER -- wall = boot clock + offset
);

-- Guest and device counts of visits grow as visits open, so that a report needs no look back.
CREATE TABLE device (
    mac BLOB PRIMARY KEY,
    zone TEXT NOT NULL,
    hostname TEXT,
    visits INTEGER NOT NULL DEFAULT 0,
    seen INTEGER NOT NULL DEFAULT 0, -- the newest visit when it was last heard of: an order
    guest BLOB,
    boot INTEGER,
    verified_ms INTEGER,
    verified INTEGER
) WITHOUT ROWID;

CREATE TABLE guest (
    key BLOB PRIMARY KEY,
    mask TEXT NOT NULL DEFAULT '',
    visits INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE consent (
    id INTEGER PRIMARY KEY,
    guest BLOB NOT NULL,
    terms TEXT NOT NULL,
    marketing INTEGER NOT NULL,
    method TEXT NOT NULL,
    boot INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    at INTEGER
);
CREATE INDEX consent_unplaced ON consent (boot) WHERE at IS NULL;

CREATE TABLE visit (
    id INTEGER PRIMARY KEY,
    zone TEXT NOT NULL,
    mac BLOB NOT NULL,
    guest BLOB,
    boot INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    started INTEGER,
    dwell INTEGER,      -- milliseconds; NULL while open
    device_nth INTEGER NOT NULL, -- the device's how manyth visit
    guest_nth INTEGER   -- the guest's how manyth visit
);
CREATE INDEX visit_started ON visit (started);
CREATE INDEX visit_unplaced ON visit (boot) WHERE started IS NULL;

-- Open visits, as of their last checkpoint.
CREATE TABLE presence (
    visit INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    dwell INTEGER NOT NULL,
    carried INTEGER NOT NULL -- the part of `dwell` from before `boot`
);

CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    zone TEXT NOT NULL,
    mac BLOB NOT NULL,
    identity TEXT NOT NULL, -- guest, staff, trusted
    guest BLOB,
    method TEXT NOT NULL,
    address TEXT,
    mark INTEGER NOT NULL,
    limits TEXT NOT NULL,   -- JSON
    up INTEGER NOT NULL,
    down INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    started INTEGER,
    reason TEXT,            -- NULL while open
    ended_boot INTEGER,
    ended_ms INTEGER,
    ended INTEGER
);
CREATE INDEX session_unplaced ON session (boot) WHERE started IS NULL;
CREATE INDEX session_end_unplaced ON session (ended_boot) WHERE ended IS NULL;

-- Open sessions, as of their last checkpoint.
CREATE TABLE usage (
    session INTEGER PRIMARY KEY,
    up INTEGER NOT NULL,
    down INTEGER NOT NULL,
    left_ms INTEGER, -- NULL has no end
    boot INTEGER NOT NULL,
    ends_ms INTEGER
);

-- Kept as the law asks, apart from what a guest may have erased.
CREATE TABLE access_log (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    event TEXT NOT NULL, -- start, end
    mac BLOB NOT NULL,
    address TEXT,
    identity TEXT NOT NULL,
    guest BLOB,
    boot INTEGER NOT NULL,
    at_ms INTEGER, -- NULL if nobody knows when it ended
    at INTEGER
);
CREATE INDEX access_log_unplaced ON access_log (boot) WHERE at IS NULL;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    anonymous INTEGER NOT NULL,
    unplaced INTEGER, -- the boot whose clock `body` still waits for
    body TEXT NOT NULL
);
CREATE INDEX outbox_unplaced ON outbox (unplaced) WHERE unplaced IS NOT NULL;

CREATE TABLE used_token (nonce BLOB PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;

INSERT INTO boot VALUES (1, 'boot-1', 1700000000000), (2, 'boot-0', NULL);
INSERT INTO meta VALUES ('generation', 12), ('outbox_bytes', 24), ('outbox_rows', 1), ('stream', 77);
INSERT INTO guest VALUES (x'01010101010101010101010101010101', '*34', 2);
INSERT INTO device VALUES
    (x'025e00000002', 'hall', 'phone', 3, 5, x'01010101010101010101010101010101', 1, 5000, 1700000005000),
    (x'025e00000004', 'gone', NULL, 1, 4, NULL, NULL, NULL, NULL);
INSERT INTO visit VALUES
    (4, 'hall', x'025e00000004', NULL, 2, 900, NULL, 61000, 1, NULL),
    (5, 'hall', x'025e00000002', x'01010101010101010101010101010101', 2, 1000, NULL, NULL, 3, 2);
INSERT INTO presence VALUES (5, 2, 61000, 60000, 0);
INSERT INTO session VALUES
    (2, 'hall', x'025e00000004', 'staff', NULL, 'staff', NULL, 1, '{}', 5, 6, 1, 3000, 1700000003000, 'revoked', 1, 4000, 1700000004000),
    (3, 'hall', x'025e00000002', 'guest', x'01010101010101010101010101010101', 'sms', '192.0.2.9', 2, '{"upload_rate":null,"download_rate":1000,"upload_quota":null,"download_quota":null,"quota":null}', 0, 0, 2, 2000, NULL, NULL, NULL, NULL, NULL);
INSERT INTO usage VALUES (3, 7, 8, 1800000, 2, 1861000);
INSERT INTO access_log VALUES (1, 3, 'start', x'025e00000002', '192.0.2.9', 'guest', x'01010101010101010101010101010101', 2, 2000, NULL);
INSERT INTO outbox VALUES (7, 1, NULL, '{"id":4,"type":"visit"}');
PRAGMA user_version = 1;
