//! What is known of names before anybody is asked.

use crate::wire::dns::Name;

/// Labels of a name that is forwarded.
const MOST_LABELS: usize = 8;
/// Characters of a name that is forwarded.
const LONGEST_NAME: usize = 120;

/// Names that browsers and phones ask for to learn whether they may go round this network's DNS:
/// Mozilla's canary for DNS over HTTPS, Apple's for Private Relay. "No such name" keeps them here.
const CANARIES: [&str; 3] = ["use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com"];

/// Domains that the world's name servers do not know (RFC 6761, 6762, 7686, and what ICANN keeps for
/// private use).
const NOWHERE: [&str; 6] = ["internal", "invalid", "local", "localdomain", "localhost", "onion"];

/// Public suffixes of two labels that stores' guests meet. A suffix that is missing here only makes
/// its domains share a budget; every entry must be run by a registry, or a stranger could own it.
const SUFFIXES: [&str; 74] = [
    "com.cn", "net.cn", "org.cn", "gov.cn", "edu.cn", "ac.cn", "mil.cn", "ah.cn", "bj.cn", "cq.cn",
    "fj.cn", "gd.cn", "gs.cn", "gx.cn", "gz.cn", "ha.cn", "hb.cn", "he.cn", "hi.cn", "hl.cn",
    "hn.cn", "jl.cn", "js.cn", "jx.cn", "ln.cn", "nm.cn", "nx.cn", "qh.cn", "sc.cn", "sd.cn",
    "sh.cn", "sn.cn", "sx.cn", "tj.cn", "xj.cn", "xz.cn", "yn.cn", "zj.cn", "com.hk", "org.hk",
    "com.mo", "com.tw", "org.tw", "gov.tw", "edu.tw", "co.uk", "org.uk", "ac.uk", "gov.uk",
    "co.jp", "ne.jp", "or.jp", "ac.jp", "go.jp", "co.kr", "or.kr", "go.kr", "com.sg", "com.my",
    "com.au", "net.au", "org.au", "co.nz", "com.br", "co.in", "co.id", "co.th", "com.vn", "com.ph",
    "com.tr", "com.mx", "co.za", "com.ar", "co.il",
];

/// A name that must be said not to exist.
pub(super) fn is_canary(name: &Name) -> bool {
    CANARIES.contains(&name.as_str())
}

/// A name that no resolver can know: one label, the root, or a domain that is nowhere.
pub(super) fn is_nowhere(name: &Name) -> bool {
    name.as_str().rsplit_once('.').is_none_or(|(_, top)| NOWHERE.contains(&top))
}

/// A name longer, or deeper, than hosts' names are.
pub(super) fn is_outlandish(name: &Name) -> bool {
    let text = name.as_str();
    text.len() > LONGEST_NAME || text.split('.').count() > MOST_LABELS
}

/// The part of a name that somebody had to register: two labels, or three below a known suffix.
pub(super) fn registrable(name: &Name) -> &str {
    let text = name.as_str();
    let suffix = last_labels(text, 2);
    if SUFFIXES.contains(&suffix) { last_labels(text, 3) } else { suffix }
}

/// Characters of a name that its owner may choose freely for each question.
pub(super) fn chosen(name: &Name) -> u32 {
    u32::try_from(name.as_str().len() - registrable(name).len()).unwrap_or(u32::MAX)
}

fn last_labels(text: &str, count: usize) -> &str {
    let start = text.rmatch_indices('.').nth(count - 1).map_or(0, |(dot, _)| dot + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_domain_is_what_was_registered() {
        for (full, domain, free) in [
            ("captive.apple.com", "apple.com", 8),
            ("apple.com", "apple.com", 0),
            ("a.b.pay.example.com.cn", "example.com.cn", 8),
            ("com.cn", "com.cn", 0),
            ("www.bbc.co.uk", "bbc.co.uk", 4),
            ("x.y.duckdns.org", "duckdns.org", 4),
            ("data.ac.li", "ac.li", 5),
        ] {
            assert_eq!(registrable(&name(full)), domain);
            assert_eq!(chosen(&name(full)), free, "{full}");
        }
    }

    #[test]
    fn what_no_server_knows_stays_here() {
        for nowhere in ["router", "printer.local", "a.b.onion"] {
            assert!(is_nowhere(&name(nowhere)), "{nowhere}");
        }
        assert!(!is_nowhere(&name("local.cn")) && !is_nowhere(&name("ipv4only.arpa")));
        assert!(is_outlandish(&name("1.2.3.4.5.6.7.8.com")));
        let long = format!("{0}.{0}.{0}.com", "a".repeat(40));
        assert!(is_outlandish(&name(&long)));
    }
}
