//! The state's secrets, in a file of their own: a database without it yields no identity. Where HQ
//! makes the guest keys, the file has none that makes any, and yields none either.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::{Deserialize, Deserializer, de};
use tracing::warn;

use crate::domain::Secrets;

/// The file's name in the state folder.
const FILE: &str = "keys.toml";
/// The name in the run folder of what makes pseudonyms.
const PSEUDONYMS: &str = "pseudonyms.key";

type Key = [u8; 32];

/// What the files hold; never printed.
#[derive(Clone)]
pub struct Keys {
    /// Makes guest keys of phone numbers and openids; where HQ does that, pseudonyms, for as long as
    /// this boot lasts.
    pub guest: Key,
    /// Hashes vouchers.
    pub voucher: Key,
    /// Makes of a MAC what HQ knows a device by.
    pub device: Key,
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
    #[error("{FILE} in the state folder is not a key file: lines of 64 hexadecimal digits")]
    Malformed,
    /// No random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The file in the state folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    #[serde(rename = "guest_key")]
    guest: Option<Hex>,
    #[serde(rename = "device_key")]
    device: Hex,
    #[serde(rename = "voucher_key")]
    voucher: Option<Hex>,
}

/// 64 hexadecimal digits.
#[derive(Clone, Copy)]
struct Hex(Key);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        key(&text).map(Self).ok_or_else(|| de::Error::custom("not a key"))
    }
}

impl Keys {
    /// What the domain hashes with.
    pub const fn secrets(&self) -> Secrets {
        Secrets { guest_key: self.guest, voucher_key: self.voucher }
    }
}

/// Reads the keys, or makes them at the first start. Whether the guests' was made is told to the
/// caller because a database that is older than its key counts every guest as new.
pub fn load_or_make(state_dir: &Path) -> Result<(Keys, bool), KeysError> {
    match held(state_dir)? {
        Some(Held { guest: Some(guest), device, voucher }) => {
            // Older files have one key for both.
            let voucher = voucher.unwrap_or(guest).0;
            Ok((Keys { guest: guest.0, voucher, device: device.0 }, false))
        }
        held => {
            let keys = Keys { guest: random()?, ..of_the_house(held.as_ref())? };
            write(state_dir, FILE, &text(Some(&keys.guest), &keys))?;
            Ok((keys, true))
        }
    }
}

/// The same where HQ makes the guest keys: the one that the state folder may have is deleted, which
/// the second value tells.
pub fn load_or_make_without_guests(
    state_dir: &Path,
    run_dir: &Path,
) -> Result<(Keys, bool), KeysError> {
    let held = held(state_dir)?;
    let whole = held.as_ref().is_some_and(|held| held.guest.is_none() && held.voucher.is_some());
    let deleted = held.as_ref().is_some_and(|held| held.guest.is_some());
    let keys = Keys { guest: of_this_boot(run_dir)?, ..of_the_house(held.as_ref())? };
    if !whole {
        write(state_dir, FILE, &text(None, &keys))?;
    }
    Ok((keys, deleted))
}

/// What makes pseudonyms, and hashes the numbers that messages are counted by, is never on a disk:
/// the power that a thief cuts takes it along. It is in memory and, so that a restart of the daemon
/// gives nobody new messages, on a tmpfs. After a power cut messages of the time before count for
/// their device, zone and store alone, and guests have new pseudonyms until HQ says who they are.
fn of_this_boot(run_dir: &Path) -> Result<Key, KeysError> {
    if !statfs(run_dir).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC) {
        warn!("store.run_dir is not on a tmpfs: a restart forgets how many messages a number had");
        return random();
    }
    let kept = std::fs::read_to_string(run_dir.join(PSEUDONYMS)).ok();
    if let Some(key) = kept.and_then(|text| key(text.trim_end())) {
        return Ok(key);
    }
    let key = random()?;
    if let Err(error) = write(run_dir, PSEUDONYMS, &format!("{}\n", HEXLOWER.encode(&key))) {
        warn!(%error, "a restart forgets how many messages a number had");
    }
    Ok(key)
}

/// The keys that make no guests; the guests' is to be filled in.
fn of_the_house(held: Option<&Held>) -> Result<Keys, KeysError> {
    let or_new = |key: Option<Hex>| key.map_or_else(random, |key| Ok(key.0));
    Ok(Keys {
        guest: [0; 32],
        voucher: or_new(held.and_then(|held| held.voucher))?,
        device: or_new(held.map(|held| held.device))?,
    })
}

fn held(state_dir: &Path) -> Result<Option<Held>, KeysError> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let file = match File::open(state_dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(KeysError::Open);
    }
    let text = io::read_to_string(file)?;
    toml::from_str(&text).map(Some).map_err(|_| KeysError::Malformed)
}

fn key(text: &str) -> Option<Key> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn text(guest: Option<&Key>, keys: &Keys) -> String {
    let line = |(name, key): (&str, &Key)| format!("{name} = \"{}\"\n", HEXLOWER.encode(key));
    let guest = guest.map(|key| ("guest_key", key));
    let others = [("device_key", &keys.device), ("voucher_key", &keys.voucher)];
    guest.into_iter().chain(others).map(line).collect()
}

/// Written beside, made durable, then renamed: a power cut leaves a whole file or none.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// 32 bytes from the system's random source.
pub fn random() -> Result<Key, KeysError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(folder: &Path) -> String {
        std::fs::read_to_string(folder.join(FILE)).unwrap()
    }

    #[test]
    fn keys_are_made_once_and_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let (first, made) = load_or_make(folder.path()).unwrap();
        let (second, again) = load_or_make(folder.path()).unwrap();
        assert!(made && !again);
        assert_eq!((first.guest, first.device), (second.guest, second.device));
        assert_eq!(first.voucher, second.voucher);
        assert!(first.guest != first.device && first.guest != first.voucher);

        let path = folder.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_make(folder.path()), Err(KeysError::Open)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "guest_key = 1", "guest_key = \"00\"\ndevice_key = \"00\""] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(load_or_make(folder.path()), Err(KeysError::Malformed)), "{bad}");
        }
        // As the first versions wrote it.
        let (guest, device) = ("01".repeat(32), "02".repeat(32));
        std::fs::write(&path, format!("guest_key = \"{guest}\"\ndevice_key = \"{device}\"\n"))
            .unwrap();
        let (old, made) = load_or_make(folder.path()).unwrap();
        assert_eq!((old.guest, old.device, old.voucher), ([1; 32], [2; 32], [1; 32]));
        assert!(!made);
    }

    #[test]
    fn where_hq_makes_the_guest_keys_the_state_folder_has_none() {
        let (state, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (own, _) = load_or_make(state.path()).unwrap();
        let (keys, deleted) = load_or_make_without_guests(state.path(), run.path()).unwrap();
        assert!(deleted && !file(state.path()).contains("guest_key"), "{}", file(state.path()));
        assert!(!file(state.path()).contains(&HEXLOWER.encode(&own.guest)));
        assert!(keys.guest != own.guest && keys.guest != [0; 32]);
        assert_eq!((keys.device, keys.voucher), (own.device, own.voucher), "vouchers stay good");
        let names: Vec<_> = std::fs::read_dir(state.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let (again, deleted) = load_or_make_without_guests(state.path(), run.path()).unwrap();
        assert!(!deleted);
        assert_eq!((again.device, again.voucher), (keys.device, keys.voucher));
        // Back again, every guest is new.
        let (back, made) = load_or_make(state.path()).unwrap();
        assert!(made && back.guest != own.guest);
        assert_eq!((back.device, back.voucher), (own.device, own.voucher));
    }

    #[test]
    fn pseudonyms_survive_the_daemon_on_a_tmpfs_and_are_on_no_disk() {
        let state = tempfile::tempdir().unwrap();
        let open = |run: &Path| load_or_make_without_guests(state.path(), run).unwrap().0.guest;
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let key = open(memory.path());
        assert_eq!(open(memory.path()), key);
        let kept = memory.path().join(PSEUDONYMS);
        assert_eq!(std::fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&kept, "bent").unwrap();
        assert_ne!(open(memory.path()), key, "a damaged file keeps nobody from starting");
        let tests = std::env::current_exe().unwrap();
        let disk = tempfile::tempdir_in(tests.parent().unwrap()).unwrap();
        assert_ne!(open(disk.path()), open(disk.path()));
        assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
        assert!(!file(state.path()).contains(&HEXLOWER.encode(&key)));
    }
}
