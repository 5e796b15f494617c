//! What passes a wire, seen by tcpdump; and frames that no ordinary program sends.

use std::path::Path;
use std::time::Duration;

use maitred::adapters::packet::PacketSocket;

use super::netns::Netns;
use super::run::{Background, until};

/// A capture that runs beside the test.
#[derive(Debug)]
pub struct Tap(Background);

impl Tap {
    /// Listens on `eth0` of a namespace for what arrives and matches the filter.
    #[track_caller]
    pub(super) fn new(netns: &Netns, folder: &Path, filter: &str) -> Self {
        let log = folder.join(format!("tap-{}-{}", netns.name(), maitred::clock::boot().0));
        let args = [
            "tcpdump",
            "-i",
            "eth0",
            "-nn",
            "-l",
            "--immediate-mode",
            "-Q",
            "in",
            "-Z",
            "root",
            filter,
        ];
        let tap = Self(netns.spawn(&args, &log));
        until(Duration::from_secs(5), "tcpdump", || {
            tap.0.output().contains("listening on").then_some(())
        });
        tap
    }

    /// Waits for what is under way; a line for each packet so far.
    pub fn packets(&self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(300));
        let output = self.0.output();
        output.lines().filter(|line| line.contains(" IP")).map(str::to_owned).collect()
    }
}

/// A host's raw end of its wire.
#[derive(Debug)]
pub struct Wire {
    socket: PacketSocket,
    interface: u32,
}

impl Wire {
    /// Opens `eth0` of a namespace.
    pub fn open(netns: &Netns) -> Self {
        netns.within(|| Self {
            socket: PacketSocket::open().unwrap(),
            interface: nix::net::if_::if_nametoindex("eth0").unwrap(),
        })
    }

    /// Sends a whole frame, when there is room for it.
    pub fn send(&self, frame: &[u8]) {
        for _ in 0..1000 {
            match self.socket.send(self.interface, frame) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => return other.unwrap(),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the wire is full");
    }
}
