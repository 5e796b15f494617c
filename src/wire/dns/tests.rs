use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A question as a phone asks it: mixed case, EDNS.
fn phone(name: &str, record_type: u16, class: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    put_question(&mut bytes, name, record_type, class);
    bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0]);
    bytes
}

fn put_question(bytes: &mut Vec<u8>, name: &str, record_type: u16, class: u16) {
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(record_type.to_be_bytes());
    bytes.extend(class.to_be_bytes());
}

fn put_record(bytes: &mut Vec<u8>, owner: &[u8], record_type: u16, ttl: u32, data: &[u8]) {
    bytes.extend(owner);
    bytes.extend(record_type.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
}

fn header(id: u16, flags: [u8; 2], answers: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![high, low, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0]
}

#[test]
fn a_question_is_read_and_answered_as_it_was_spelled() {
    let asked = phone("Captive.Apple.COM", 1, 1);
    let question = Question::parse(&asked).unwrap();
    assert_eq!((question.name.as_str(), question.kind), ("captive.apple.com", Kind::A));
    let addresses = vec!["203.0.113.7".parse().unwrap()];
    let answer = question.answer(&Reply { code: Code::Found, addresses, ttl: 30 });
    let mut wanted = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1];
    put_question(&mut wanted, "Captive.Apple.COM", 1, 1);
    put_record(&mut wanted, &[0xc0, 12], 1, 30, &[203, 0, 113, 7]);
    wanted.extend([0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer, wanted);
}

#[test]
fn kinds_are_told_apart() {
    for (record_type, class, kind) in [
        (1, 1, Kind::A),
        (28, 1, Kind::Aaaa),
        (65, 1, Kind::Service),
        (64, 1, Kind::Service),
        (16, 1, Kind::Other),
        (255, 1, Kind::Other),
        (252, 1, Kind::Other),
        (10, 1, Kind::Other),
        (1, 3, Kind::Other),
        (1, 255, Kind::Other),
        (65_399, 1, Kind::Other),
    ] {
        let bytes = phone("version.bind", record_type, class);
        assert_eq!(Question::parse(&bytes).unwrap().kind, kind, "{record_type} {class}");
    }
}

#[test]
fn what_is_no_plain_question_is_not_read() {
    use Malformed::{Direction, Layout, Long, Name, Sections};
    let good = phone("a.example.net", 1, 1);
    let changed = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    assert_eq!(Question::parse(&[]), Err(Layout));
    assert_eq!(Question::parse(&[0; 600]), Err(Long));
    for (place, value, problem) in [
        (2, 0x81, Direction), // an answer
        (2, 0x28, Direction), // UPDATE
        (5, 0, Sections),
        (5, 2, Sections),
        (7, 1, Sections),
        (9, 1, Sections),
        (11, 2, Sections),
        (11, 0, Sections), // bytes after the end
        (12, 0x41, Layout),
        (13, b' ', Name),
        (13, 0x80, Name),
        (13, b'.', Name),
    ] {
        assert_eq!(Question::parse(&changed(place, value)), Err(problem), "{place} {value}");
    }
    // A pointer into the header, which spells "\x01\x00…", or to itself.
    for to in [2, 12] {
        let mut bytes = header(7, [1, 0], 0);
        bytes.extend([0xc0, to, 0, 1, 0, 1]);
        assert!(Question::parse(&bytes).is_err());
    }
    for end in 0..good.len() {
        assert!(Question::parse(&good[..end]).is_err(), "{end}");
    }
}

#[test]
fn names_are_hosts_names() {
    assert_eq!(name("Pay.Example.NET.").as_str(), "pay.example.net");
    assert_eq!(name("_dns.a-b").as_str(), "_dns.a-b");
    let long = [&"a".repeat(64), ".net"].concat();
    for bad in ["", ".", "a b.net", "*.net", "a..net", "bücher.de", "a\\046b.net", long.as_str()] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
}

#[test]
fn aliases_are_followed_to_addresses_that_are_reached() {
    let mut bytes = header(7, [0x81, 0x80], 5);
    put_question(&mut bytes, "www.example.net", 1, 1);
    let mut edge = Vec::new();
    put_question(&mut edge, "edge.cdn.example", 0, 0);
    edge.truncate(edge.len() - 4);
    put_record(&mut bytes, &[0xc0, 12], 5, 90, &edge);
    put_record(&mut bytes, &edge, 1, 60, &[203, 0, 113, 1]);
    put_record(&mut bytes, &edge, 1, 70, &[203, 0, 113, 2]);
    put_record(&mut bytes, &[4, b'e', b'v', b'i', b'l', 0], 1, 60, &[203, 0, 113, 66]);
    put_record(&mut bytes, &edge, 16, 60, b"\x04text");
    let read = |family| response(&bytes, 7, &name("www.example.net"), family);
    let Ok(Response::Answer(reply)) = read(Kind::A) else { panic!("{:?}", read(Kind::A)) };
    let wanted: Vec<IpAddr> = vec![[203, 0, 113, 1].into(), [203, 0, 113, 2].into()];
    assert_eq!((reply.code, reply.addresses, reply.ttl), (Code::Found, wanted, 60));
    assert_eq!(read(Kind::Aaaa), Err(Malformed::Mismatch));
}

#[test]
fn answers_that_are_not_ours_are_not_believed() {
    let asked = name("www.example.net");
    let answer = |id, flags, question: &str, record_type| {
        let mut bytes = header(id, flags, 1);
        put_question(&mut bytes, question, record_type, 1);
        put_record(&mut bytes, &[0xc0, 12], 1, 60, &[203, 0, 113, 1]);
        response(&bytes, 7, &asked, Kind::A)
    };
    assert!(matches!(answer(7, [0x81, 0x80], "WWW.example.net", 1), Ok(Response::Answer(_))));
    assert_eq!(answer(8, [0x81, 0x80], "www.example.net", 1), Err(Malformed::Mismatch));
    assert_eq!(answer(7, [0x81, 0x80], "www.example.org", 1), Err(Malformed::Mismatch));
    assert_eq!(answer(7, [0x81, 0x80], "www.example.net", 28), Err(Malformed::Mismatch));
    assert_eq!(answer(7, [0x01, 0x00], "www.example.net", 1), Err(Malformed::Direction));
    assert_eq!(answer(7, [0x83, 0x80], "www.example.net", 1), Ok(Response::Truncated));
    assert_eq!(answer(7, [0x81, 0x82], "www.example.net", 1), Ok(Response::Failure));
    let nobody = Ok(Response::Answer(Reply::empty(Code::NoName)));
    assert_eq!(answer(7, [0x81, 0x83], "www.example.net", 1), nobody);
}

#[test]
fn aliases_in_a_ring_end() {
    let mut bytes = header(7, [0x81, 0x80], 1);
    put_question(&mut bytes, "www.example.net", 1, 1);
    put_record(&mut bytes, &[0xc0, 12], 5, 90, &[0xc0, 12]);
    let read = response(&bytes, 7, &name("www.example.net"), Kind::A);
    assert_eq!(read, Ok(Response::Answer(Reply::empty(Code::Found))));
}

/// The seeds of the fuzzer, which must be what they are named for.
#[test]
fn seeds_read_as_they_are_named() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/dns");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        match file.split('-').next().unwrap() {
            "question" => assert!(Question::parse(&bytes).is_ok(), "{file}"),
            "answer" => {
                let asked = name("www.example.net");
                assert!(response(&bytes, 7, &asked, Kind::A).is_ok(), "{file}");
            }
            "bad" => assert!(Question::parse(&bytes).is_err(), "{file}"),
            other => panic!("a seed named {other}"),
        }
        seen += 1;
    }
    assert!(seen >= 8);
}

fn addresses(family: Kind) -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec(any::<u128>(), 0..8).prop_map(move |numbers| {
        let address = |number: u128| match family {
            Kind::Aaaa => Ipv6Addr::from(number).into(),
            _ => Ipv4Addr::from(u32::try_from(number >> 96).unwrap()).into(),
        };
        numbers.into_iter().map(address).collect()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Question::parse(&bytes);
        let _ = response(&bytes, 7, &name("www.example.net"), Kind::A);
    }

    #[test]
    fn damaged_messages_are_read_or_refused(
        damage in prop::collection::vec((0_usize..80, any::<u8>()), 1..6),
    ) {
        let mut question = phone("www.example.net", 1, 1);
        let mut answer = header(7, [0x81, 0x80], 2);
        put_question(&mut answer, "www.example.net", 1, 1);
        put_record(&mut answer, &[0xc0, 12], 5, 90, &[0xc0, 16]);
        put_record(&mut answer, &[0xc0, 16], 1, 60, &[203, 0, 113, 1]);
        for (place, value) in damage {
            let (of_question, of_answer) = (place % question.len(), place % answer.len());
            question[of_question] = value;
            answer[of_answer] = value;
        }
        if let Ok(question) = Question::parse(&question) {
            prop_assert!(question.answer(&Reply::empty(Code::Refused)).len() <= 300);
        }
        let _ = response(&answer, 7, &name("www.example.net"), Kind::A);
    }

    #[test]
    fn what_we_say_reads_back(
        text in "[a-z0-9_]{1,63}(\\.[A-Za-z0-9][a-z0-9-]{0,50}[a-z]){0,3}",
        family in prop::sample::select(vec![Kind::A, Kind::Aaaa]),
        told in addresses(Kind::A),
        told6 in addresses(Kind::Aaaa),
        ttl in 0_u32..1_000_000,
    ) {
        let told = if family == Kind::A { told } else { told6 };
        let asked = name(&text);
        let bytes = query(7, &asked, family);
        let question = Question::parse(&bytes).unwrap();
        prop_assert_eq!((&question.name, question.kind), (&asked, family));
        let answer = question.answer(&Reply { code: Code::Found, addresses: told.clone(), ttl });
        prop_assert!(answer.len() <= 512);
        let Response::Answer(reply) = response(&answer, 7, &asked, family).unwrap() else {
            panic!("no answer")
        };
        prop_assert_eq!(&reply.addresses[..], &told[..told.len().min(MOST_ADDRESSES)]);
        prop_assert!(reply.addresses.is_empty() || reply.ttl == ttl);
    }
}
