//! One daemon a run folder: a lock that the kernel drops when its holder dies.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The right to be the daemon of a run folder; held until dropped.
#[derive(Debug)]
pub struct Lock {
    run_dir: PathBuf,
    _file: Flock<File>,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The run folder could not be made, or is not private.
    #[error("the run folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file could not be opened or written.
    #[error("the lock {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("maitred is already running{}", pid.map(|pid| format!(" as process {pid}")).unwrap_or_default())]
    Held {
        /// Which process, as far as the file says.
        pid: Option<u32>,
    },
}

impl Lock {
    /// Makes the run folder (mode 0700), or accepts one that only its user writes, and takes the lock in it, at once or not at all.
    pub fn take(run_dir: &Path) -> Result<Self, LockError> {
        private_folder(run_dir)
            .map_err(|source| LockError::Folder { path: run_dir.to_owned(), source })?;
        let path = run_dir.join("maitred.lock");
        let failed = |source| LockError::File { path: path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| {
                match errno {
                    Errno::EWOULDBLOCK => LockError::Held { pid: pid_in(&mut file) },
                    other => failed(other.into()),
                }
            })?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { run_dir: run_dir.to_owned(), _file: file })
    }

    /// The folder that is locked.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let folder = std::fs::metadata(path)?;
    if folder.uid() == nix::unistd::geteuid().as_raw() && folder.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other("belongs to another user, or others can write to it"))
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
