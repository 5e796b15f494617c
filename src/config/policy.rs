//! Configuration → the domain's [`Policy`].

use super::{Config, OnMacMove, Return, Zone};
use crate::domain::policy::{CodePolicy, Limits, PassPolicy, Policy, VisitPolicy, ZonePolicy};

impl Config {
    /// What the domain is told of all this.
    pub fn policy(&self) -> Policy {
        let code = &self.code;
        Policy {
            store_id: self.store.id.clone(),
            zones: self.zone.iter().map(zone).collect(),
            code: CodePolicy {
                length: code.length,
                lifetime: code.lifetime.0,
                tries: code.tries,
                resend_after: code.resend_after.0,
                per_device_day: code.per_device_day,
                per_number_hour: code.per_number_hour,
                per_number_day: code.per_number_day,
                per_prefix_day: code.per_prefix_day,
                per_zone_day: code.per_zone_day,
                per_store_day: code.per_store_day,
                countries: code.countries.clone(),
                alarm: code.alarm.into(),
            },
            follow_keys: self.follow.keys.iter().map(|key| key.0).collect(),
            seal_key: self.hq.as_ref().and_then(|hq| hq.seal_key.as_ref()).map(|key| key.0),
            pass: self.pass.as_ref().map(|pass| PassPolicy {
                length: pass.length.0,
                per_device_day: pass.per_device_day,
                per_store_day: pass.per_store_day,
            }),
            visit: VisitPolicy {
                leave_after: self.visit.leave_after.0,
                merge_gap: self.visit.merge_gap.0,
            },
            trusted_macs: self.lists.trusted_macs.clone(),
            blocked_macs: self.lists.blocked_macs.clone(),
            preemptive_macs: self.lists.preemptive_macs.clone(),
            remember_for: self.portal.remember_for.0,
            return_by_tap: self.portal.r#return == Return::Tap,
            max_devices: self.portal.max_devices,
            vouchers: self.voucher.enabled,
        }
    }
}

fn zone(zone: &Zone) -> ZonePolicy {
    ZonePolicy {
        name: zone.name.clone(),
        session_timeout: zone.session_timeout.0,
        extend: zone.extend,
        idle_timeout: zone.idle_timeout.0,
        preauth_idle_timeout: zone.preauth_idle_timeout.0,
        limits: Limits {
            upload_rate: zone.upload_rate.map(|amount| amount.0),
            download_rate: zone.download_rate.map(|amount| amount.0),
            upload_quota: zone.upload_quota.map(|amount| amount.0),
            download_quota: zone.download_quota.map(|amount| amount.0),
            quota: zone.quota.map(|amount| amount.0),
        },
        max_clients: zone.max_clients,
        roam: zone.roam,
        cut_on_move: zone.on_mac_move == OnMacMove::Cut,
    }
}
