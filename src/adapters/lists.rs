//! The lists that `maitred trust` and `maitred block` keep, in a file of their own in the state
//! folder: the configuration is the owner's and is never written.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::config::Lists;

const FILE: &str = "lists.toml";

/// Why the lists are not known, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum ListsError {
    /// The file cannot be read or written.
    #[error("{FILE} in the state folder: {0}")]
    File(#[from] io::Error),
    /// It is not a file of lists.
    #[error("{FILE} in the state folder is damaged; remove or mend it: {0}")]
    Malformed(Box<toml::de::Error>),
}

/// Reads the lists; empty ones if there is no file yet.
pub fn read(state_dir: &Path) -> Result<Lists, ListsError> {
    match std::fs::read_to_string(state_dir.join(FILE)) {
        Ok(text) => toml::from_str(&text).map_err(|error| ListsError::Malformed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lists::default()),
        Err(error) => Err(error.into()),
    }
}

/// Replaces the file. A power cut leaves the old one or the new one, whole. Blocks.
pub fn write(state_dir: &Path, lists: &Lists) -> Result<(), ListsError> {
    let mut text = String::from("# Kept by `maitred trust` and `maitred block`.\n");
    for (name, macs) in [
        ("trusted_macs", &lists.trusted_macs),
        ("blocked_macs", &lists.blocked_macs),
        ("preemptive_macs", &lists.preemptive_macs),
    ] {
        let macs: Vec<String> = macs.iter().map(|mac| format!("\"{mac}\"")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = [{}]", macs.join(", "));
    }
    let beside = state_dir.join(format!("{FILE}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, state_dir.join(FILE))?;
    File::open(state_dir)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::Mac;

    #[test]
    fn lists_are_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Lists::default());
        let mut lists = Lists::default();
        lists.trusted_macs.extend([Mac([2; 6]), Mac([4; 6])]);
        lists.blocked_macs.insert(Mac([6; 6]));
        write(folder.path(), &lists).unwrap();
        assert_eq!(read(folder.path()).unwrap(), lists);
        write(folder.path(), &Lists::default()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Lists::default());
        std::fs::write(folder.path().join(FILE), "trusted_macs = [\"02:").unwrap();
        assert!(matches!(read(folder.path()), Err(ListsError::Malformed(_))));
    }
}
