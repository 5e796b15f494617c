//! Most of the program is needed for the start, or for nobody yet, and the kernel maps 64 kB of it
//! around each place that runs. What is handed back stays in the page cache, where it is cheap to
//! fetch again and the first to go when the router needs memory.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use tokio::time;
use tracing::debug;

/// What nothing ran for so long may go.
const EVERY: Duration = Duration::from_secs(30);

/// Hands back the program's code now and every 30 s.
pub async fn keep_small() {
    let mut due = time::interval(EVERY);
    loop {
        due.tick().await;
        hand_back_code();
    }
}

/// Unmaps the program's own code; what runs from here on is mapped again as it runs.
fn hand_back_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for code in maps.lines().filter_map(code) {
        if let Err(problem) = unmap(&code) {
            debug!(%problem, "code stays mapped");
        }
    }
}

/// The addresses of a line of `maps`, if they are a file's code.
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, rights, inode) = (fields.next()?, fields.next()?, fields.nth(2)?);
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (rights == "r-xp" && inode != "0").then_some(address(start)?..address(end)?)
}

#[allow(unsafe_code)]
fn unmap(code: &Range<usize>) -> std::io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(code.start);
    // SAFETY: The pages are a file's, and nobody may write to them: the kernel reads them again.
    match unsafe { libc::madvise(start, code.len(), libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn only_code_of_files_is_handed_back() {
        let code = |line| super::code(line);
        let text = "010c1000-01518000 r-xp 000c0000 fe:00 1234   /usr/sbin/maitred";
        assert_eq!(code(text), Some(0x010c_1000..0x0151_8000));
        for other in [
            "01000000-010c1000 r--p 00000000 fe:00 1234   /usr/sbin/maitred",
            "01519000-0154c000 rw-p 00517000 fe:00 1234   /usr/sbin/maitred",
            "7ffc1000-7ffc3000 r-xp 00000000 00:00 0      [vdso]",
            "nonsense",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn the_process_gets_smaller_and_goes_on() {
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = smaps.lines().skip_while(|line| code(line).is_none());
            let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            size.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let all = maps.lines().find_map(code).unwrap();
        let memory = fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut vec![0; all.len()], all.start.try_into().unwrap()).unwrap();
        let before = resident();
        hand_back_code();
        assert!(resident() < before, "{} kB of {before}", resident());
    }
}
