//! A file that is read again while the daemon runs.

use super::{Config, Zone};

impl Config {
    /// Takes over what `new` changes and a running daemon can go by: lists, codes, follow keys,
    /// visits, and the zones' time-outs and limits. Returns what else is different, and waits for
    /// a restart.
    pub fn take_over(&mut self, new: Self) -> Vec<String> {
        let mut waits = Vec::new();
        let mut keep = |name: &str, same: bool| {
            if !same {
                waits.push(name.to_owned());
            }
        };
        let Self {
            store,
            portal,
            brand,
            zone,
            dns,
            uplink,
            code,
            sms,
            follow,
            pass,
            wechat_wifi,
            voucher,
            visit,
            retention,
            staff,
            hq,
            firewall,
            lists,
        } = new;
        keep("store", self.store == store);
        self.portal.remember_for = portal.remember_for;
        self.portal.r#return = portal.r#return;
        self.portal.max_devices = portal.max_devices;
        keep("portal", self.portal == portal);
        keep("brand", self.brand == brand);
        keep("dns", self.dns == dns);
        keep("uplink", self.uplink == uplink);
        keep("code.lifetime", self.code.lifetime == code.lifetime);
        keep("code.countries", self.code.countries == code.countries);
        let (lifetime, countries) = (self.code.lifetime, std::mem::take(&mut self.code.countries));
        self.code = super::Code { lifetime, countries, ..code };
        keep("sms", self.sms == sms);
        keep("pass", self.pass == pass);
        keep("visit.visitor_after", self.visit.visitor_after == visit.visitor_after);
        self.visit = super::Visit { visitor_after: self.visit.visitor_after, ..visit };
        keep("retention", self.retention == retention);
        keep("staff", self.staff == staff);
        keep("hq", self.hq == hq);
        keep("firewall", self.firewall == firewall);
        self.follow.keys.clone_from(&follow.keys);
        keep("follow", self.follow == follow);
        keep("voucher", self.voucher == voucher);
        keep("wechat_wifi", self.wechat_wifi == wechat_wifi);
        self.lists = lists;
        waits.extend(take_over_zones(&mut self.zone, zone));
        waits
    }
}

fn take_over_zones(running: &mut [Zone], new: Vec<Zone>) -> Vec<String> {
    let names = |zones: &[Zone]| zones.iter().map(|zone| zone.name.clone()).collect::<Vec<_>>();
    let mut waits = Vec::new();
    if names(running) != names(&new) {
        waits.push("the list of zones".to_owned());
    }
    for zone in new {
        let Some(old) = running.iter_mut().find(|old| old.name == zone.name) else { continue };
        let followed = Zone {
            interface: old.interface.clone(),
            roam: old.roam,
            isolate: old.isolate,
            walled_garden: old.walled_garden.clone(),
            users_to_router: old.users_to_router.clone(),
            ..zone.clone()
        };
        if followed != zone {
            waits.push(format!("zone {}", zone.name));
        }
        *old = followed;
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Length;

    fn config(text: &str) -> Config {
        let head = "[store]\nid = \"s\"\nname = \"S\"\ntime_zone = \"CST-8\"\n";
        Config::parse(&format!("{head}{text}"), "test").unwrap()
    }

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let zone = |name: &str, more: &str| {
            format!("[[zone]]\nname = \"{name}\"\ninterface = \"br-{name}\"\n{more}\n")
        };
        let first = zone("a", "") + &zone("b", "");
        let mut running = config(&first);
        assert!(running.take_over(config(&first)).is_empty());

        let new = zone("b", "session_timeout = \"1h\"\nroam = true") + &zone("c", "");
        let new = config(&format!(
            "{new}[portal]\nport = 99\nremember_for = \"1d\"\n[code]\n\
             tries = 3\nlifetime = \"9m\"\n[lists]\nblocked_macs = [\"02:00:00:00:00:01\"]\n\
             [follow]\nkeys = [\"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"]\naccount = \"A\"\n"
        ));
        let waits = running.take_over(new);
        assert_eq!(waits, ["portal", "code.lifetime", "follow", "the list of zones", "zone b"]);
        assert_eq!((running.follow.keys.len(), &running.follow.account), (1, &None));
        assert_eq!(running.zone.len(), 2);
        assert_eq!(running.zone[1].session_timeout, Length::minutes(60));
        assert!(!running.zone[1].roam && running.portal.port == 2050);
        assert_eq!(running.portal.remember_for, Length::minutes(24 * 60));
        assert_eq!((running.code.tries, running.code.lifetime), (3, Length::minutes(5)));
        assert_eq!(running.lists.blocked_macs.len(), 1);
    }
}
