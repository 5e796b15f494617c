//! What the house is told of the flows on which guests asked.

use super::*;

#[tokio::test]
async fn flows_are_done_with_once_their_device_awaits_nothing() {
    let bench = Bench::start().await;
    let done = || std::mem::take(&mut *bench.done.lock().unwrap());
    let socket = async |from: Ipv4Addr| {
        let socket = UdpSocket::bind((from, 0)).await.unwrap();
        socket.connect("127.7.7.7:2053").await.unwrap();
        let flow = (socket.local_addr().unwrap(), IpAddr::from([127, 7, 7, 7]));
        (socket, flow)
    };
    let (one, flow) = socket(KNOWN).await;
    ask(&one, "portal.example.net", Kind::A).await;
    assert_eq!(done(), [flow]);
    // Slower than the next, of another flow of the same device.
    one.send(&query(8, &"slow.example.org".parse().unwrap(), Kind::A)).await.unwrap();
    let (other, _) = socket(KNOWN).await;
    ask(&other, "portal.example.net", Kind::A).await;
    assert_eq!(done(), []);
    timeout(PATIENCE, one.recv(&mut [0; 600])).await.unwrap().unwrap();
    // What gets no answer came that way, too; of strangers nothing is said.
    let (stranger, _) = socket(Ipv4Addr::LOCALHOST).await;
    one.send(b"no question").await.unwrap();
    ask(&stranger, "portal.example.net", Kind::A).await;
    assert_eq!(done(), [flow, flow]);
}
