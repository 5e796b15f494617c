//! Limits of one session, as arguments.

use crate::config::Amount;
use crate::domain::policy::Overrides;

/// What a session may use, where it differs.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Limits {
    /// A second from the device, such as 500kB; none lifts the limit.
    #[arg(long, value_name = "AMOUNT", value_parser = limit)]
    upload_rate: Option<u64>,
    /// A second to the device.
    #[arg(long, value_name = "AMOUNT", value_parser = limit)]
    download_rate: Option<u64>,
    /// In all from the device, such as 1GB.
    #[arg(long, value_name = "AMOUNT", value_parser = limit)]
    upload_quota: Option<u64>,
    /// In all to the device.
    #[arg(long, value_name = "AMOUNT", value_parser = limit)]
    download_quota: Option<u64>,
    /// In all, both ways.
    #[arg(long, value_name = "AMOUNT", value_parser = limit)]
    quota: Option<u64>,
}

impl Limits {
    /// As the domain takes them.
    pub(super) const fn overrides(&self) -> Overrides {
        Overrides {
            upload_rate: self.upload_rate,
            download_rate: self.download_rate,
            upload_quota: self.upload_quota,
            download_quota: self.download_quota,
            quota: self.quota,
        }
    }
}

/// Reads one.
pub(super) fn limit(text: &str) -> Result<u64, &'static str> {
    if text == "none" {
        return Ok(0);
    }
    let amount = text.parse::<Amount>().map(|amount| amount.0);
    amount.map_err(|()| "an amount such as 500kB, 2MB or 1GiB, or none")
}
