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
    identity TEXT NOT NULL, -- guest, staff, trusted, preemptive
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
