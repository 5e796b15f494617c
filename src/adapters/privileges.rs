//! Root is given up before the first thread starts: capabilities belong to threads, and what is
//! dropped here none of them ever has.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown, lchown};
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{User, geteuid, setgid, setgroups, setuid};

/// What the daemon does with the network: tables, packet sockets, ports below 1024.
const KEPT: [Capability; 3] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A capability that we need is not ours.
    #[error("the capability {0} is missing: start maitred as root, or with it")]
    Missing(Capability),
    /// `store.user` is not a user of this system.
    #[error("store.user: there is no user {0:?}")]
    NoUser(String),
    /// A folder could not be given to the user.
    #[error("cannot give {path} to the user: {source}", path = path.display())]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot give up privileges: {0}")]
    Kernel(String),
}

/// A folder that the daemon writes to, and its mode if it is made.
pub type Folder<'a> = (&'a Path, u32);

/// Becomes `user`, if one is named, with `folders` its own; keeps three capabilities and lets no
/// program gain more.
pub fn give_up(user: Option<&str>, folders: &[Folder<'_>]) -> Result<(), PrivilegeError> {
    let held = caps::read(None, CapSet::Permitted).map_err(kernel)?;
    if let Some(missing) = KEPT.into_iter().find(|capability| !held.contains(capability)) {
        return Err(PrivilegeError::Missing(missing));
    }
    let kept = CapsHashSet::from(KEPT);
    // It takes CAP_SETPCAP, as the next does.
    let _ = being_root_gives_nothing();
    for dropped in caps::read(None, CapSet::Bounding).map_err(kernel)?.difference(&kept) {
        // Without CAP_SETPCAP the bounding set stays; no_new_privs closes that door as well.
        if caps::drop(None, CapSet::Bounding, *dropped).is_err() {
            break;
        }
    }
    // After the bounding set: another user's effective set is empty, CAP_SETPCAP is not in it.
    if let Some(name) = user.filter(|_| geteuid().is_root()) {
        become_user(name, folders)?;
    }
    caps::clear(None, CapSet::Inheritable).map_err(kernel)?;
    caps::set(None, CapSet::Permitted, &kept)
        .or_else(|_| caps::set(None, CapSet::Effective, &kept))
        .map_err(kernel)?;
    caps::set(None, CapSet::Effective, &kept).map_err(kernel)?;
    prctl::set_no_new_privs().map_err(kernel)
}

/// A program that we start gets no capability for running as root (capabilities(7), `SECBIT_NOROOT`).
#[allow(unsafe_code)]
fn being_root_gives_nothing() -> nix::Result<()> {
    // A whole register, as the kernel reads it.
    let bits = (libc::SECBIT_NOROOT | libc::SECBIT_NOROOT_LOCKED).unsigned_abs();
    let bits = libc::c_ulong::from(bits);
    // SAFETY: the kernel reads a number.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }).map(drop)
}

fn become_user(name: &str, folders: &[Folder<'_>]) -> Result<(), PrivilegeError> {
    let user = User::from_name(name).ok().flatten();
    let user = user.ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
    for (path, mode) in folders {
        let given = make(path, *mode).and_then(|()| give(path, &user));
        given.map_err(|source| PrivilegeError::Folder { path: (*path).to_owned(), source })?;
    }
    prctl::set_keepcaps(true).map_err(kernel)?;
    setgroups(&[]).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid)).map_err(kernel)
}

/// A folder for one user. Parents that are missing stay root's, and anybody may pass through them.
fn make(folder: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    DirBuilder::new().recursive(true).mode(mode).create(folder)
}

/// The folder, and the files right in it, which an earlier run may have made as root. What links in
/// it lead to is not ours to give.
fn give(folder: &Path, user: &User) -> io::Result<()> {
    let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
    chown(folder, uid, gid)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            lchown(entry.path(), uid, gid)?;
        }
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn kernel(error: impl ToString) -> PrivilegeError {
    PrivilegeError::Kernel(error.to_string())
}
