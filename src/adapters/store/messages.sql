-- Messages caused in the last day, which count towards the limits.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    mac BLOB NOT NULL,
    number BLOB NOT NULL,
    prefix BLOB NOT NULL,
    boot INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    at INTEGER
);
