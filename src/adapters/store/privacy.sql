-- Whom a guest key is of, for HQ alone: a sealed box. Apart from `guest`, which its guest may have
-- erased: it is kept as long as the access log names them.
CREATE TABLE identity (guest BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;
ALTER TABLE device ADD COLUMN heard INTEGER; -- day since 1970, where known
ALTER TABLE message ADD COLUMN zone TEXT NOT NULL DEFAULT '';
ALTER TABLE guest ADD COLUMN agreed TEXT; -- to what, at last
