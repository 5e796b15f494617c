//! When resolvers are silent, guests rude and questions many.

use super::*;
use crate::adapters::neighbours::{Link, Links};
use crate::clock;

#[tokio::test]
async fn while_no_resolver_answers_names_lead_to_the_portal() {
    let bench = Bench::start().await;
    assert_eq!(told("www.example.org").await, found(&[1], 30));
    let (a, b) = tokio::join!(told("silent.example.org"), told("silent.example.com"));
    assert_eq!((a, b), (Response::Failure, Response::Failure));
    let placeholder: IpAddr = "198.18.0.1".parse().unwrap();
    let forged = |response| match response {
        Response::Answer(reply) => reply.addresses == [placeholder] && reply.ttl <= 5,
        _ => false,
    };
    assert!(forged(told("silent.a.cn").await));
    assert!(forged(told("silent.b.cn").await));
    assert!(forged(told("other.example.org").await));
    assert_eq!(told("www.example.org").await, found(&[1], 30));
    // The next question that goes out finds them awake.
    sleep(Duration::from_millis(1100)).await;
    assert!(forged(told("awake.example.org").await));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(told("other.example.org").await, found(&[1], 30));
    assert_eq!(told("awake.example.org").await, found(&[1], 30));
    assert!(bench.forwarder.counts().placeholders >= 4);
}

#[tokio::test]
async fn questions_over_tcp_are_few_and_short() {
    let bench = Bench::start().await;
    let mut stream = TcpStream::connect("127.0.0.1:2053").await.unwrap();
    for _ in 0..16 {
        assert_eq!(over_tcp(&mut stream, "www.example.org").await, found(&[1], 30));
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the seventeenth is not heard");
    let mut long = TcpStream::connect("[::1]:2053").await.unwrap();
    long.write_all(&[0xff, 0xff]).await.unwrap();
    assert!(matches!(long.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    // Four idle connections of one address, and no fifth; other addresses are still heard.
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(TcpStream::connect("192.0.2.1:2053").await.unwrap());
    }
    let mut fifth = TcpStream::connect("192.0.2.1:2053").await.unwrap();
    assert!(matches!(timeout(PATIENCE, fifth.read(&mut [0; 1])).await.unwrap(), Ok(0) | Err(_)));
    let mut other = TcpStream::connect("[::1]:2053").await.unwrap();
    assert_eq!(over_tcp(&mut other, "www.example.org").await, found(&[1], 30));
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn ten_thousand_questions_at_once() {
    let bench = Bench::start().await;
    // A crowd that asks one slow question, and a guest who floods with different ones and with it.
    let mut crowd = Vec::new();
    for number in 0..100 {
        ip(&format!("addr add 10.0.0.{number}/32 dev lo"));
        let socket = UdpSocket::bind(format!("10.0.0.{number}:0")).await.unwrap();
        socket.connect("127.0.0.1:2053").await.unwrap();
        crowd.push(socket);
    }
    let flood = guest("192.0.2.1:2053").await;
    let slow: Name = "slow.example.org".parse().unwrap();
    for number in 0..8000_u32 {
        let name = format!("slow-{number}.t{}.org", number % 7).parse().unwrap();
        let name = if number % 2 == 0 { &slow } else { &name };
        flood.send(&query(7, name, Kind::A)).await.unwrap();
        if number % 4 == 0 {
            let phone = &crowd[usize::try_from(number / 4 % 100).unwrap()];
            phone.send(&query(7, &slow, Kind::A)).await.unwrap();
        }
        if number % 50 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let mut buffer = [0; 600];
    let mut answered = 0;
    for phone in &crowd {
        while let Ok(length) = timeout(Duration::from_millis(20), phone.recv(&mut buffer)).await {
            let reply = response(&buffer[..length.unwrap()], 7, &slow, Kind::A).unwrap();
            assert_eq!(reply, found(&[1], 30));
            answered += 1;
        }
    }
    let counts = bench.forwarder.counts();
    assert!(answered >= 1900, "{answered} of the crowd's 2,000 were answered: {counts:?}");
    assert!(counts.overloaded > 0 && bench.asked() < 500, "{} {counts:?}", bench.asked());
    // And afterwards a guest is served as ever.
    assert_eq!(ask(&crowd[0], "www.example.org", Kind::A).await, found(&[1], 30));
    let state = format!("{:?}", bench.forwarder);
    assert!(state.contains("flights: {}"), "{state}");
}

#[tokio::test]
async fn rubbish_is_counted_and_not_answered() {
    let bench = Bench::start().await;
    let socket = guest("127.0.0.1:2053").await;
    let good = query(7, &"www.example.org".parse().unwrap(), Kind::A);
    for bytes in [&b""[..], b"x", &good[..20], &[0xff; 1400], &[good.clone(), vec![0]].concat()] {
        socket.send(bytes).await.unwrap();
    }
    let reply = timeout(Duration::from_millis(300), socket.recv(&mut [0; 600])).await;
    assert!(reply.is_err(), "an answer to rubbish");
    assert_eq!(bench.forwarder.counts().malformed, 5);
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_named() {
    own_namespace();
    let Err(problem) = bind_zone(ZONE, "br-gone", PORT) else { panic!("bound to nothing") };
    assert!(problem.to_string().starts_with("UDP port 2053 on br-gone: "), "{problem}");
}

fn link(index: u32) -> Links {
    let mac = crate::domain::names::Mac([2, 0, 0, 0, 0, 9]);
    let name = "br-late".to_owned();
    let link = Link { index, name: name.clone(), mac, up: true, addresses: Vec::new() };
    [(name, link)].into()
}

#[tokio::test]
async fn interfaces_are_followed_until_it_is_told_to_stop() {
    own_namespace();
    let (_settings, watched) = watch::channel(Arc::new(Settings::default()));
    let learn = |_, _| -> Learning { Box::pin(async { Ok(()) }) };
    let hooks = Hooks {
        learn: Box::new(learn),
        device: Box::new(|_, _| None),
        asked: Box::new(|_, _, _, _| {}),
    };
    let (links, news) = watch::channel(Links::new());
    let (stop, stopped) = watch::channel(false);
    let listeners = bind([(ZONE, "br-late".to_owned())], PORT).unwrap();
    let running = tokio::spawn(listeners.run(Forwarder::new(watched, hooks), news, stopped));
    let index = || nix::net::if_::if_nametoindex("br-late").unwrap();
    for address in ["192.0.2.9", "192.0.2.10"] {
        // Made, and made again: another interface by the same name.
        ip("link add br-late type bridge");
        ip(&format!("addr add {address}/32 dev br-late"));
        ip("link set br-late up");
        links.send(link(index())).unwrap();
        let deadline = clock::boot().0 + 5000;
        while bind_zone(ZONE, "br-late", PORT).is_ok() {
            assert!(clock::boot().0 < deadline, "nobody listens on the new interface");
            sleep(Duration::from_millis(10)).await;
        }
        ip("link del br-late");
        links.send(Links::new()).unwrap();
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}
