//! Most of the program is needed for the start, or for nobody yet, and the kernel maps 64 kB of it
//! around each place that runs. What is handed back stays in the page cache, where it is cheap to
//! fetch again and the first to go when the router needs memory.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use tokio::time;
use tracing::debug;

/// To map all of it again takes the processor a millisecond.
const QUIET: Duration = Duration::from_secs(20);

/// Hands back the program's code and constants, now and whenever no page was asked for in 20 s: no
/// guest waits for what is mapped again. `served` counts them.
pub async fn keep_small(served: impl Fn() -> u32) {
    let mut due = time::interval(QUIET);
    let mut before = served();
    loop {
        due.tick().await;
        let now = served();
        if now == before {
            hand_back();
        }
        before = now;
    }
}

/// Unmaps the program's code and constants; what is used from here on is mapped again.
fn hand_back() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for pages in maps.lines().filter_map(unchanging) {
        if let Err(problem) = unmap(&pages) {
            debug!(%problem, "the program stays mapped");
        }
    }
}

/// The addresses of a line of `maps`, if they are a file's code, or its beginning, where the
/// constants are. Others that are read-only now may have been written to by the linker.
fn unchanging(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let of_a_file = fields.nth(1)? != "0";
    let kept = rights == "r-xp" || (rights == "r--p" && offset.bytes().all(|digit| digit == b'0'));
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (of_a_file && kept).then_some(address(start)?..address(end)?)
}

#[allow(unsafe_code)]
fn unmap(pages: &Range<usize>) -> std::io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(pages.start);
    // SAFETY: The pages are a file's, and nobody wrote to them: the kernel reads them again.
    match unsafe { libc::madvise(start, pages.len(), libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn only_what_nobody_writes_to_is_handed_back() {
        let of = |offset, rights, inode| {
            unchanging(&format!("010c1000-01518000 {rights} {offset} fe:00 {inode}  /sbin/maitred"))
        };
        let all = Some(0x010c_1000..0x0151_8000);
        assert_eq!(of("000c0000", "r-xp", "1234"), all);
        assert_eq!(of("00000000", "r--p", "1234"), all);
        assert_eq!(of("00517000", "r--p", "1234"), None);
        assert_eq!(of("00000000", "rw-p", "1234"), None);
        assert_eq!(of("00000000", "r-xp", "0"), None);
        assert_eq!(unchanging("nonsense"), None);
        assert_eq!(unchanging(""), None);
    }

    #[test]
    fn the_process_gets_smaller_and_goes_on() {
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = smaps.lines().skip_while(|line| !is_code(line));
            let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            size.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let code = maps.lines().find(|line| is_code(line)).and_then(unchanging).unwrap();
        let memory = fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut vec![0; code.len()], code.start.try_into().unwrap()).unwrap();
        let before = resident();
        hand_back();
        assert!(resident() < before, "{} kB of {before}", resident());
    }

    fn is_code(line: &str) -> bool {
        line.contains(" r-xp ") && unchanging(line).is_some()
    }
}
