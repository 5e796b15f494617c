//! Where sessions stand for what their devices send.

use super::*;
use crate::wire::nft::element::Element;

/// The same four last bytes as the device of [`grant`].
fn alike(number: u16, of: u16) -> Grant {
    let mac = Mac([6, 0xff, 0, 0, of.to_be_bytes()[0], of.to_be_bytes()[1]]);
    Grant { mac, used_up: 1_000, used_down: 2_000, ..grant(number) }
}

fn used(handle: &Handle, outlet: &mut mpsc::Receiver<Envelope>) -> Vec<(u64, u64, u64)> {
    handle.submit(Firewall::ReadUsage).unwrap();
    let Event::Usage(usage) = next(outlet) else { panic!("no usage") };
    let mut usage: Vec<_> = usage.iter().map(|one| (one.session.0, one.up, one.down)).collect();
    usage.sort_unstable();
    usage
}

fn held(set: &str) -> Vec<Element> {
    Netfilter::open().unwrap().elements(ruleset::TABLE, set).unwrap()
}

#[test]
fn devices_whose_macs_end_alike_are_told_apart() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    let submit = |outlet: &mut _, effect| {
        handle.submit(effect).unwrap();
        assert!(matches!(next(outlet), Event::Granted(_)));
    };
    let many: Vec<_> = vec![grant(1), alike(2, 1)];
    for (first, second) in [(0, 1), (1, 0)] {
        let (first, second) = (many[first].clone(), many[second].clone());
        submit(&mut outlet, Firewall::Grant(first.clone()));
        submit(&mut outlet, Firewall::Grant(second.clone()));
        assert_eq!((held(ruleset::UP).len(), held(ruleset::UP_ALIKE).len()), (1, 1));
        assert_eq!(used(&handle, &mut outlet), [(1, 10, 20), (2, 1_000, 2_000)]);
        // A change leaves each in its place, with what it has used.
        for changed in &many {
            let unread = Grant { used_up: 0, used_down: 0, ..changed.clone() };
            submit(&mut outlet, Firewall::Replace(unread));
        }
        assert_eq!(used(&handle, &mut outlet), [(1, 10, 20), (2, 1_000, 2_000)]);
        // The first goes; the second's connections have its mark, so its place stays. Then the first
        // comes back.
        handle.submit(Firewall::Revoke(first.clone())).unwrap();
        assert_eq!(used(&handle, &mut outlet).len(), 1);
        submit(&mut outlet, Firewall::Replace(second.clone()));
        assert_eq!((held(ruleset::UP).len(), held(ruleset::UP_ALIKE).len()), (0, 1));
        submit(&mut outlet, Firewall::Grant(first.clone()));
        assert_eq!((held(ruleset::UP).len(), held(ruleset::UP_ALIKE).len()), (1, 1));
        // Revoking the one twice takes nothing from the other.
        for _ in 0..2 {
            handle.submit(Firewall::Revoke(second.clone())).unwrap();
        }
        assert_eq!(used(&handle, &mut outlet)[0].0, first.session.0);
        handle.submit(Firewall::Revoke(first)).unwrap();
        assert_eq!(used(&handle, &mut outlet), []);
        for set in [ruleset::UP, ruleset::UP_ALIKE, ruleset::DOWN, ruleset::QUOTA] {
            assert_eq!(held(set), [], "{set}");
        }
    }
    handle.submit(Firewall::Rebuild(many.clone())).unwrap();
    assert!(matches!(next(&mut outlet), Event::Granted(_)));
    assert!(matches!(next(&mut outlet), Event::Granted(_)));
    assert_eq!(used(&handle, &mut outlet), [(1, 10, 20), (2, 1_000, 2_000)]);
    handle.stop(OnStop::Keep);
    let (handle, found, mut outlet) = start(plan());
    let marks = found.sessions().unwrap().into_iter().map(|live| live.mark);
    assert_eq!(marks.collect::<std::collections::BTreeSet<_>>(), [Mark(1), Mark(2)].into());
    assert_eq!(used(&handle, &mut outlet), [(1, 10, 20), (2, 1_000, 2_000)]);
    let shown = nft(&["list", "map", "inet", ruleset::TABLE, ruleset::UP]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("counter"), "{shown:?}");
    handle.stop(OnStop::Keep);
}

#[test]
fn what_a_time_out_leaves_goes_with_a_revoke_or_at_the_next_start() {
    own_namespace();
    let (handle, _, mut outlet) = start(plan());
    for number in [1, 3] {
        let short = Grant { left: Some(Duration::from_millis(300)), ..grant(number) };
        handle.submit(Firewall::Grant(short)).unwrap();
        assert!(matches!(next(&mut outlet), Event::Granted(_)));
    }
    granted(&handle, &mut outlet, 2);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!((held(ruleset::UP).len(), held(ruleset::DOWN).len()), (3, 1));
    assert_eq!(used(&handle, &mut outlet), [(2, 10, 20)]);
    handle.submit(Firewall::Revoke(grant(1))).unwrap();
    assert_eq!(used(&handle, &mut outlet), [(2, 10, 20)]);
    assert_eq!(held(ruleset::UP).len(), 2);
    handle.stop(OnStop::Keep);
    let (handle, _, mut outlet) = start(plan());
    assert_eq!(held(ruleset::UP).len(), 1);
    assert_eq!(used(&handle, &mut outlet), [(2, 10, 20)]);
    handle.stop(OnStop::Keep);
}
