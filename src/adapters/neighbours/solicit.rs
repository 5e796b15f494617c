//! Asks a silent device whether it is there: by unicast, so that nobody else hears it. The answer,
//! if one comes, is heard by [`crate::adapters::capture`].

use std::io;
use std::net::IpAddr;

use super::links::Link;
use crate::adapters::packet::PacketSocket;
use crate::domain::names::Mac;
use crate::wire::{arp, nd};

/// A device is asked for at most this many of its addresses.
const ADDRESSES: usize = 8;

/// Why a device could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SolicitError {
    /// No packet socket (`CAP_NET_RAW`?).
    #[error("cannot open a packet socket: {0}")]
    Open(#[source] io::Error),
    /// The interface took no frame.
    #[error("cannot send on the interface: {0}")]
    Send(#[source] io::Error),
}

/// Sends questions.
#[derive(Debug)]
pub struct Solicitor(PacketSocket);

impl Solicitor {
    /// Needs `CAP_NET_RAW`.
    pub fn open() -> Result<Self, SolicitError> {
        PacketSocket::open().map(Self).map_err(SolicitError::Open)
    }

    /// Asks `mac` for each of its addresses that lies in one of the interface's own networks.
    /// Never waits. Returns how many questions were sent, 0 to 8.
    pub fn ask(&self, link: &Link, mac: Mac, addresses: &[IpAddr]) -> Result<usize, SolicitError> {
        let mut sent = 0;
        for address in addresses.iter().take(ADDRESSES) {
            let frame = match (link.source_for(*address), *address) {
                (Some(IpAddr::V4(from)), IpAddr::V4(to)) => {
                    arp::request((link.mac, from), (mac, to)).to_vec()
                }
                (Some(IpAddr::V6(from)), IpAddr::V6(to)) => {
                    nd::solicitation((link.mac, from), (mac, to))
                }
                _ => continue,
            };
            self.0.send(link.index, &frame).map_err(SolicitError::Send)?;
            sent += 1;
        }
        Ok(sent)
    }
}
