-- Whom devices, visits and consents name, and whom the access log does: gathered while the tables
-- are walked. What is written meanwhile, behind the walk's back, counts as well. The statement that
-- fires a trigger decides about conflicts, so there must be none.
CREATE TEMP TABLE IF NOT EXISTS met (guest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS logged (guest BLOB PRIMARY KEY) WITHOUT ROWID;
DELETE FROM met;
DELETE FROM logged;
CREATE TEMP TRIGGER IF NOT EXISTS device_new AFTER INSERT ON main.device
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE guest = NEW.guest)
    BEGIN INSERT INTO met VALUES (NEW.guest); END;
CREATE TEMP TRIGGER IF NOT EXISTS device_named AFTER UPDATE OF guest ON main.device
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE guest = NEW.guest)
    BEGIN INSERT INTO met VALUES (NEW.guest); END;
CREATE TEMP TRIGGER IF NOT EXISTS visit_named AFTER UPDATE OF guest ON main.visit
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE guest = NEW.guest)
    BEGIN INSERT INTO met VALUES (NEW.guest); END;
CREATE TEMP TRIGGER IF NOT EXISTS consent_new AFTER INSERT ON main.consent
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE guest = NEW.guest)
    BEGIN INSERT INTO met VALUES (NEW.guest); END;
CREATE TEMP TRIGGER IF NOT EXISTS consent_named AFTER UPDATE OF guest ON main.consent
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE guest = NEW.guest)
    BEGIN INSERT INTO met VALUES (NEW.guest); END;
CREATE TEMP TRIGGER IF NOT EXISTS log_new AFTER INSERT ON main.access_log
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM logged WHERE guest = NEW.guest)
    BEGIN INSERT INTO logged VALUES (NEW.guest); END;
CREATE TEMP TRIGGER IF NOT EXISTS log_named AFTER UPDATE OF guest ON main.access_log
    WHEN NEW.guest NOT NULL AND NOT EXISTS (SELECT 1 FROM logged WHERE guest = NEW.guest)
    BEGIN INSERT INTO logged VALUES (NEW.guest); END;
-- Who agrees again to what is no longer kept is recorded again.
CREATE TEMP TRIGGER IF NOT EXISTS consent_over AFTER DELETE ON main.consent
    BEGIN UPDATE guest SET agreed = NULL WHERE key = OLD.guest; END;
