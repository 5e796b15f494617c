//! Whether there is a way out of the store at all.

use std::fs;

/// The kernel's routes of IPv4 and IPv6 (`proc(5)`).
const ROUTES: [&str; 2] = ["/proc/net/route", "/proc/net/ipv6_route"];
/// A route that only refuses (`RTF_REJECT`).
const REJECT: u32 = 0x0200;

/// A default route stands, in either family. True also where the kernel does not tell.
pub fn has_default_route() -> bool {
    let [v4, v6] = ROUTES.map(|file| fs::read_to_string(file).ok());
    match (v4, v6) {
        (None, None) => true,
        (v4, v6) => v4.is_some_and(|v4| leads_out(&v4)) || v6.is_some_and(|v6| leads_out_v6(&v6)),
    }
}

/// Interface, destination, gateway, flags, and four more, then the mask.
fn leads_out(routes: &str) -> bool {
    routes.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let zero = |place: usize| words.get(place) == Some(&"00000000");
        zero(1) && zero(7) && words.get(3).is_some_and(|flags| !rejects(flags))
    })
}

/// Destination, its length, source, its length, next hop, three numbers, flags, interface.
fn leads_out_v6(routes: &str) -> bool {
    routes.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, "00", _, _, _, _, _, _, flags, interface] = words[..] else {
            return false;
        };
        destination.bytes().all(|digit| digit == b'0') && interface != "lo" && !rejects(flags)
    })
}

fn rejects(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found_among_the_others() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let own = "br-guest\t00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let out = "wan\t00000000\t016433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        let refused = "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert!(leads_out(&[head, own, out].concat()));
        assert!(!leads_out(&[head, own, refused].concat()) && !leads_out(""));

        let zero = "0".repeat(32);
        let v6 = |to: &str, flags: &str, interface: &str| {
            format!("{to} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {interface}\n")
        };
        assert!(leads_out_v6(&v6(&format!("{zero} 00"), "00000003", "wan")));
        assert!(!leads_out_v6(&v6(&format!("{zero} 00"), "00200200", "lo")));
        assert!(!leads_out_v6(&v6(&format!("{zero} 00"), "00200200", "wan")));
        assert!(!leads_out_v6(&v6("20010db8007700000000000000000000 40", "00000001", "br-guest")));
    }
}
