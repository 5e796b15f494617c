-- HQ's batches: what their codes are hashed with, as HQ has no key of the store's.
ALTER TABLE voucher_batch ADD COLUMN salt BLOB;

-- The version of the terms that whoever used it agreed to.
ALTER TABLE voucher_use ADD COLUMN terms TEXT NOT NULL DEFAULT '';

-- How often the guest has lengthened it.
ALTER TABLE usage ADD COLUMN extended INTEGER NOT NULL DEFAULT 0;

-- What a device did that it may do only so often, for as long as that counts.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    pass INTEGER NOT NULL, -- a pass to the app's garden; else a wrong voucher
    mac BLOB NOT NULL,
    boot INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    at INTEGER
);

-- Sealed names, in the order in which they came: by guest, each would touch a page of its own.
-- `identity` has those of guests who are forgotten, while the access log names them.
CREATE TABLE seal (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
ALTER TABLE guest ADD COLUMN seal INTEGER;
CREATE TRIGGER guest_forgotten BEFORE DELETE ON guest WHEN OLD.seal NOT NULL BEGIN
    INSERT OR IGNORE INTO identity (guest, sealed)
        SELECT OLD.key, sealed FROM seal WHERE id = OLD.seal;
    DELETE FROM seal WHERE id = OLD.seal;
END;
