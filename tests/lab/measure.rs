//! Traffic that is measured: iperf3 between a guest and the internet.

use serde_json::Value;

use super::run::{Background, until};
use super::{Guest, Lab, WEB_V4, WEB_V6};

/// An iperf3 server on every address of the internet.
#[derive(Debug)]
pub struct Meter(#[expect(dead_code, reason = "it ends with its owner")] [Background; 2]);

/// What one run of iperf3 counted.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Bytes of payload that were sent, and that arrived.
    pub bytes: [f64; 2],
    /// Datagrams that were sent, and that arrived; 0 for TCP.
    pub datagrams: [f64; 2],
    /// Payload bytes a second that arrived.
    pub rate: f64,
}

impl Lab {
    /// Starts the server.
    #[track_caller]
    pub fn meter(&self) -> Meter {
        Meter([WEB_V4, WEB_V6].map(|address| {
            let log = self.folder().join(format!("iperf3-{}", address.replace(':', "-")));
            let args = ["iperf3", "-s", "-B", address, "--forceflush"];
            let server = self.internet.netns.spawn(&args, &log);
            until(std::time::Duration::from_secs(5), "iperf3", || {
                server.output().contains("listening").then_some(())
            });
            server
        }))
    }
}

impl Guest {
    /// Runs iperf3 to a web address with more arguments; `-R` measures the way down.
    #[track_caller]
    pub fn measure(&self, address: &str, args: &str) -> Measured {
        let args: Vec<&str> = args.split_whitespace().collect();
        let text = self
            .netns
            .exec_for(
                &[&["iperf3", "-J", "--connect-timeout", "3000", "-c", address], &args[..]]
                    .concat(),
                40,
            )
            .ok();
        let report: Value = serde_json::from_str(&text).unwrap();
        let end = &report["end"];
        let number = |sum: &str, name: &str| end[sum][name].as_f64().unwrap_or_default();
        let arrived = number("sum_received", "packets") - number("sum_received", "lost_packets");
        Measured {
            bytes: ["sum_sent", "sum_received"].map(|sum| number(sum, "bytes")),
            datagrams: [number("sum_sent", "packets"), arrived],
            rate: number("sum_received", "bits_per_second") / 8.0,
        }
    }
}
