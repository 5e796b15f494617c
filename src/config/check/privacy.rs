//! Who makes guest keys, terms of the record, and the alarm for messages.

use super::{Config, DAY, Found};
use crate::config::KeyMaker;
use crate::config::retention::{ACCESS_LOG_LEAST, MOST};

pub(super) fn check(config: &Config, found: &mut Found) {
    let sealed = config.hq.as_ref().is_some_and(|hq| hq.seal_key.is_some());
    found.unless(
        config.store.key == KeyMaker::Router || sealed,
        "store.key",
        "is \"hq\" and needs hq.seal_key, to which numbers are sealed",
    );
    let retention = &config.retention;
    for (path, length) in [
        ("retention.visits", retention.visits),
        ("retention.sessions", retention.sessions),
        ("retention.devices", retention.devices),
        ("retention.consents", retention.consents),
        ("retention.voucher_uses", retention.voucher_uses),
    ] {
        found.unless((DAY..=MOST).contains(&length.0), path, "must be 1d to 3660d");
    }
    found.unless(
        (ACCESS_LOG_LEAST..=MOST).contains(&retention.access_log.0),
        "retention.access_log",
        "must be 184d, which are six months, to 3660d",
    );
    found.unless(
        (1000..=10_000_000).contains(&retention.outbox_rows),
        "retention.outbox_rows",
        "must be 1000 to 10000000",
    );
    found.unless(
        (1 << 20..=1 << 32).contains(&retention.outbox_bytes.0),
        "retention.outbox_bytes",
        "must be 1 MiB to 4 GiB",
    );
    let alarm = &config.code.alarm;
    found.unless(
        alarm.window >= config.code.lifetime && alarm.window.0 <= DAY,
        "code.alarm.window",
        "must be code.lifetime to 1d",
    );
    found.unless(alarm.at_least > 0, "code.alarm.at_least", "must be at least 1");
    found.unless(alarm.percent <= 100, "code.alarm.percent", "must be at most 100");
}
