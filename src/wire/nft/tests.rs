use super::attr::Attrs;
use super::element::{self, Data, Element};
use super::expr::{Base, DynsetOp, Expr, LimitKind, NatKind, Reg};
use super::keys;
use super::message::{Reply, replies};
use super::object::{FlowTable, Rule};

fn extra() -> Vec<Expr> {
    vec![
        Expr::Counter { packets: 3, bytes: 9 },
        Expr::Limit { kind: LimitKind::Bytes, rate: 1 << 40, per_secs: 60, burst: 7, over: true },
        Expr::Quota { bytes: 1 << 40, consumed: 5, over: true },
        Expr::Nat { kind: NatKind::Snat, family: 2, addr: Some(Reg::R0), port: None },
        Expr::Masquerade,
        Expr::VerdictMap { map: "m".into(), sreg: Reg(5) },
        Expr::WayBack { dreg: Reg::R4 },
        Expr::WayOut { dreg: Reg::R4 },
        Expr::Or { sreg: Reg::R0, sreg2: Reg::R4, dreg: Reg(15), len: 4 },
        Expr::Payload { base: Base::Network, offset: 24, len: 16, dreg: Reg::R8 },
        Expr::Lookup { set: "s".into(), sreg: Reg(5), dreg: None, inverted: true },
        Expr::Dynset {
            op: DynsetOp::Update,
            set: "s".into(),
            key: Reg::R0,
            timeout_ms: Some(5000),
            exprs: vec![
                Expr::Counter { packets: 0, bytes: 0 },
                Expr::ConnLimit { count: 2, over: true },
            ],
            inverted: true,
        },
    ]
}

#[test]
fn expressions_survive_the_wire() {
    let rule = Rule { chain: "x".into(), exprs: extra() };
    let mut attrs = Attrs::new();
    rule.emit("t", &mut attrs);
    let bytes = attrs.finish().unwrap();
    assert_eq!(Rule::parse(&bytes), Ok(("t".into(), rule)));
    for cut in 0..bytes.len() {
        let _ = Rule::parse(&bytes[..cut]);
    }
}

/// As the kernel writes it (`nf_tables_fill_flowtable_info`).
#[test]
fn flow_tables_name_their_devices() {
    let mut attrs = Attrs::new();
    attrs.name(1, "fw4").name(2, "ft").u32(4, 1).u64(5, 9);
    attrs.nest(3, |hook| {
        hook.u32(1, 0).u32(2, 0).nest(3, |devices| {
            devices.name(1, "wan").name(1, "lan1");
        });
    });
    let bytes = attrs.finish().unwrap();
    let found = FlowTable::parse(&bytes).unwrap();
    assert_eq!((found.table.as_str(), found.name.as_str()), ("fw4", "ft"));
    assert_eq!(found.devices, ["wan", "lan1"]);
    for cut in 0..bytes.len() {
        let _ = FlowTable::parse(&bytes[..cut]);
    }
}

#[test]
fn elements_survive_the_wire() {
    let one = Element {
        key: keys::device("br-guest", [2, 0, 0, 1, 2, 3]),
        data: Some(Data::Value(keys::mark(7))),
        interval_end: false,
        timeout_ms: Some(1000),
        expires_ms: Some(10),
        user: keys::session_user_data(0xfeed_beef),
        exprs: extra()[..2].to_vec(),
    };
    let mut attrs = Attrs::new();
    element::emit("t", "s", std::slice::from_ref(&one), &mut attrs);
    let mut found = Vec::new();
    element::parse(&attrs.finish().unwrap(), |e| found.push(e)).unwrap();
    assert_eq!(keys::parse_session(&found[0].user), Some(0xfeed_beef));
    assert_eq!(keys::parse_device(&found[0].key), Some(("br-guest".into(), [2, 0, 0, 1, 2, 3])));
    assert_eq!(found, [one]);
}

#[test]
fn numbers_are_big_endian_and_lengths_are_not() {
    let mut attrs = Attrs::new();
    Expr::Quota { bytes: 0x0102, consumed: 3, over: true }.emit(&mut attrs);
    let bytes = attrs.finish().unwrap();
    assert_eq!(bytes[..2], 10u16.to_ne_bytes());
    assert_eq!(bytes[4..10], *b"quota\0");
    // Name 12, nest header 4, attribute header 4, then the value.
    assert_eq!(bytes[20..28], [0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn a_full_message_of_elements_fits() {
    let one =
        Element { exprs: extra()[..2].to_vec(), user: vec![0; 64], ..Element::key(vec![0; 24]) };
    let mut attrs = Attrs::new();
    element::emit("t", "s", &vec![one.clone(); element::PER_MESSAGE], &mut attrs);
    assert!(attrs.finish().is_ok());
    let mut attrs = Attrs::new();
    element::emit("t", "s", &vec![one; 1000], &mut attrs);
    assert!(attrs.finish().is_err());
}

#[test]
fn prefixes_become_intervals() {
    let net = |ip: &str, len| keys::prefix(ip.parse().unwrap(), len);
    assert_eq!(net("192.0.2.77", 25), (vec![192, 0, 2, 0], Some(vec![192, 0, 2, 128])));
    assert_eq!(net("10.255.255.255", 32), (vec![10, 255, 255, 255], Some(vec![11, 0, 0, 0])));
    assert_eq!(net("255.255.255.255", 32), (vec![255; 4], None));
    assert_eq!(net("1.2.3.4", 0), (vec![0; 4], None));
}

#[test]
fn replies_never_panic() {
    for len in 0..64usize {
        for fill in [0u8, 1, 2, 0x10, 0xff] {
            let mut buf = vec![fill; len];
            for total in [0u32, 15, 16, 20, 36, 64, u32::MAX] {
                if len >= 4 {
                    buf[..4].copy_from_slice(&total.to_ne_bytes());
                }
                assert!(replies(&buf).count() <= 64);
            }
        }
    }
    let mut ack = vec![0u8; 36];
    ack[..4].copy_from_slice(&36u32.to_ne_bytes());
    ack[4..6].copy_from_slice(&2u16.to_ne_bytes());
    ack[8..12].copy_from_slice(&9u32.to_ne_bytes());
    assert_eq!(replies(&ack).collect::<Vec<_>>(), [Ok(Reply::Ack { seq: 9 })]);
}
