//! What dnsmasq is to announce: the Captive Portal API's address (RFC 8910), in a file of its
//! `dhcp-optsdir`. dnsmasq takes a new file there at once; one that is gone it forgets on SIGHUP or
//! at a restart. Not its `conf-dir`: whoever may write there can have dnsmasq run programs as root,
//! and options alone can do nothing of the kind. dnsmasq's router advertisements take no option 37
//! (`ra-param` has none, `option6:` is for DHCPv6): [`super::advertise`] sends it beside them.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::adapters::http::api::Api;
use crate::config::Config;

/// The file's name in the folder.
pub const FILE: &str = "maitred";
/// dnsmasq passes over names that start with a dot.
const UNFINISHED: &str = ".maitred.new";

/// One announcement to the guests of some interfaces.
#[derive(Clone, Debug)]
pub struct Announcement {
    folder: PathBuf,
    text: String,
}

impl Announcement {
    /// Announces `url` on these interfaces, by a file in `folder`.
    pub fn new<'a>(
        folder: PathBuf,
        url: &str,
        interfaces: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut text = String::from("# Written and removed by maitred (portal.dnsmasq_dir).\n");
        for interface in interfaces {
            // dnsmasq tags a request with the name of the interface that it came in on.
            let _ = writeln!(text, "tag:{interface},114,{url}");
            let _ = writeln!(text, "tag:{interface},option6:103,{url}");
        }
        Self { folder, text }
    }

    /// What a configuration wants announced; `None` if nothing.
    pub fn from_config(config: &Config) -> Option<Self> {
        let folder = config.portal.dnsmasq_dir.clone()?;
        let url = Api::address(&config.portal)?;
        Some(Self::new(folder, &url, config.zone.iter().map(|zone| zone.interface.as_str())))
    }

    /// Where it stands, or would.
    pub fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Makes it stand, or not; a file that is right already is left alone, with its time.
    pub fn keep(&self, standing: bool) -> io::Result<()> {
        if !standing {
            return match fs::remove_file(self.file()) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if self.stands() {
            return Ok(());
        }
        let unfinished = self.folder.join(UNFINISHED);
        fs::write(&unfinished, &self.text)?;
        fs::rename(unfinished, self.file())
    }

    /// Whether the file is there and says this.
    pub fn stands(&self) -> bool {
        fs::read(self.file()).is_ok_and(|text| text == self.text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_while_it_should() {
        let folder = tempfile::tempdir().unwrap();
        let announcement = Announcement::new(
            folder.path().into(),
            "https://wifi.example:2053/api",
            ["br-guest", "br-cafe"],
        );
        announcement.keep(false).unwrap();
        announcement.keep(true).unwrap();
        let text = fs::read_to_string(folder.path().join("maitred")).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "tag:br-guest,114,https://wifi.example:2053/api",
                "tag:br-guest,option6:103,https://wifi.example:2053/api",
                "tag:br-cafe,114,https://wifi.example:2053/api",
                "tag:br-cafe,option6:103,https://wifi.example:2053/api",
            ]
        );
        let written = fs::metadata(announcement.file()).unwrap().modified().unwrap();
        announcement.keep(true).unwrap();
        assert_eq!(fs::metadata(announcement.file()).unwrap().modified().unwrap(), written);
        // Somebody's edit is put right.
        fs::write(announcement.file(), "114,https://evil.example/").unwrap();
        assert!(!announcement.stands());
        announcement.keep(true).unwrap();
        assert!(announcement.stands());
        announcement.keep(false).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let announcement = Announcement::new("/nowhere/dnsmasq.d".into(), "https://x/", ["br0"]);
        assert!(announcement.keep(true).is_err());
        announcement.keep(false).unwrap();
    }
}
