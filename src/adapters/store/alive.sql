-- When the boot was last known to run: what a session had left then, it has in the next boot.
ALTER TABLE boot ADD COLUMN alive_ms INTEGER NOT NULL DEFAULT 0;
UPDATE boot SET alive_ms = coalesce(
    (SELECT max(ends_ms - left_ms) FROM usage WHERE usage.boot = boot.id), 0);
ALTER TABLE usage DROP COLUMN left_ms;
