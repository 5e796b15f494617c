//! One network namespace: made, entered, removed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use nix::sched::{CloneFlags, setns};

use super::run::{Background, Output, feed, run};

/// All our namespaces start so; the owner's process id follows.
pub const PREFIX: &str = "mt-";

/// A named namespace with its loopback up; dropping it removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        run(&["ip", "netns", "add", name], 5).ok();
        let netns = Self { name: name.to_owned() };
        fs::create_dir_all(netns.etc()).unwrap();
        fs::write(netns.resolv_conf(), "").unwrap();
        netns.ip("link set lo up");
        netns
    }

    /// Its name, as `ip netns` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is `/etc/resolv.conf` inside.
    pub fn resolv_conf(&self) -> PathBuf {
        self.etc().join("resolv.conf")
    }

    /// Runs a command inside, 15 s at most.
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_for(args, 15)
    }

    /// Runs a command inside, `limit` seconds at most.
    pub fn exec_for(&self, args: &[&str], limit: u32) -> Output {
        run(&[&["ip", "netns", "exec", &self.name], args].concat(), limit)
    }

    /// Starts a process inside that dies with this one.
    pub fn spawn(&self, args: &[&str], log: &Path) -> Background {
        let wrap = ["ip", "netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", "--"];
        Background::new(&[&wrap, args].concat(), log)
    }

    /// Calls `work` on a thread inside; sockets it opens belong to this namespace for good.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// `ip` commands, one a line.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        feed(&["ip", "-n", &self.name, "-batch", "-"], lines, 5).ok();
    }

    /// `key=value` settings.
    #[track_caller]
    pub fn sysctl(&self, settings: &[&str]) {
        self.exec(&[&["sysctl", "-q", "-w"], settings].concat()).ok();
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what test processes that are gone have left.
pub fn sweep() {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let dead = |name: &String| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        pid.and_then(|pid| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    names(Path::new("/run/netns")).iter().filter(|name| dead(name)).for_each(|name| remove(name));
    let temporary = std::env::temp_dir();
    for name in names(&temporary).iter().filter(|name| dead(name)) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

fn remove(name: &str) {
    for pid in run(&["ip", "netns", "pids", name], 5).stdout.split_whitespace() {
        // Our own threads' namespaces are not listed by `ip netns pids`; a stray child is.
        if pid.parse() != Ok(std::process::id()) {
            run(&["kill", "-KILL", pid], 5);
        }
    }
    run(&["ip", "netns", "del", name], 5);
    let _ = fs::remove_dir_all(Path::new("/etc/netns").join(name));
}
