//! The state's secrets, in a file of their own: a database without it yields no identity.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// The file's name in the state folder.
const FILE: &str = "keys.toml";

/// What the file holds; never printed.
#[derive(Clone)]
pub struct Keys {
    /// Makes guest keys of phone numbers and openids.
    pub guest: [u8; 32],
    /// Makes of a MAC what HQ knows a device by.
    pub device: [u8; 32],
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("{FILE} in the state folder: {0}")]
    File(#[from] io::Error),
    /// Others can read it.
    #[error("{FILE} in the state folder can be read by others: its mode must be 0600")]
    Open,
    /// It is not a key file.
    #[error("{FILE} in the state folder is not a key file: two lines of 64 hexadecimal digits")]
    Malformed,
    /// No random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    guest_key: String,
    device_key: String,
}

/// Reads the keys, or makes them at the first start. `made` is told to the caller because a
/// database that is older than its keys counts every guest as new.
pub fn load_or_make(state_dir: &Path) -> Result<(Keys, bool), KeysError> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let path = state_dir.join(FILE);
    match File::open(&path) {
        Ok(file) => Ok((read(&file)?, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((make(state_dir)?, true)),
        Err(error) => Err(error.into()),
    }
}

fn read(file: &File) -> Result<Keys, KeysError> {
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(KeysError::Open);
    }
    let text: Text =
        toml::from_str(&io::read_to_string(file)?).map_err(|_| KeysError::Malformed)?;
    let key =
        |text: &str| -> Option<[u8; 32]> { HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok() };
    match (key(&text.guest_key), key(&text.device_key)) {
        (Some(guest), Some(device)) => Ok(Keys { guest, device }),
        _ => Err(KeysError::Malformed),
    }
}

/// Written beside, made durable, then renamed: a power cut leaves a whole file or none.
fn make(state_dir: &Path) -> Result<Keys, KeysError> {
    let keys = Keys { guest: random()?, device: random()? };
    let beside = state_dir.join(format!("{FILE}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "guest_key = \"{}\"", HEXLOWER.encode(&keys.guest))?;
    writeln!(file, "device_key = \"{}\"", HEXLOWER.encode(&keys.device))?;
    file.sync_all()?;
    std::fs::rename(&beside, state_dir.join(FILE))?;
    File::open(state_dir)?.sync_all()?;
    Ok(keys)
}

/// 32 bytes from the system's random source.
pub fn random() -> Result<[u8; 32], KeysError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let (first, made) = load_or_make(folder.path()).unwrap();
        let (second, again) = load_or_make(folder.path()).unwrap();
        assert!(made && !again);
        assert_eq!((first.guest, first.device), (second.guest, second.device));
        assert_ne!(first.guest, first.device);

        let path = folder.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_make(folder.path()), Err(KeysError::Open)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "guest_key = 1", "guest_key = \"00\"\ndevice_key = \"00\""] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(load_or_make(folder.path()), Err(KeysError::Malformed)), "{bad}");
        }
    }
}
