//! `maitred password`: the hash that `staff.password_hash` wants.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Stdin};

use anyhow::{Context as _, ensure};
use argon2::{Argon2, Params, PasswordHasher as _};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::print;

/// One login of a clerk takes 16 MiB and some 100 ms of a router.
const MEMORY_KIB: u32 = 16 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SHORTEST: usize = 8;
const LONGEST: u16 = 1024;

pub(super) fn password() -> anyhow::Result<()> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let quiet = Quiet::on(&stdin)?;
        let password = prompt(&stdin, "Password: ")?;
        let again = prompt(&stdin, "Once more: ")?;
        drop(quiet);
        ensure!(password == again, "the two are not the same");
        password
    } else {
        read_line(&stdin)?
    };
    print::line(&hash(&password)?)
}

fn hash(password: &str) -> anyhow::Result<String> {
    ensure!(password.chars().count() >= SHORTEST, "a password has at least {SHORTEST} characters");
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::from(params).hash_password(password.as_bytes())?.to_string())
}

fn prompt(stdin: &Stdin, text: &str) -> anyhow::Result<String> {
    // To stderr: stdout is for the hash alone.
    eprint!("{text}");
    let line = read_line(stdin);
    eprintln!();
    line
}

fn read_line(stdin: &Stdin) -> anyhow::Result<String> {
    let mut line = String::new();
    stdin.lock().take(LONGEST.into()).read_line(&mut line).context("cannot read the password")?;
    ensure!(line.len() < LONGEST.into(), "a password has less than {LONGEST} bytes");
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal without echo, until dropped.
struct Quiet<'t> {
    terminal: &'t Stdin,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn on(terminal: &'t Stdin) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier as _;

    use super::*;

    #[test]
    fn a_hash_verifies_and_is_modest() {
        let phc = hash("correct horse").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=16384,t=2,p=1$"), "{phc}");
        assert!(Argon2::default().verify_password(b"correct horse", phc.as_str()).is_ok());
        assert!(Argon2::default().verify_password(b"wrong horse", phc.as_str()).is_err());
        assert_ne!(phc, hash("correct horse").unwrap(), "salted");
        assert!(hash("short").is_err());
    }
}
