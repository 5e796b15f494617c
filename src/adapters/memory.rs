//! Most of the program is needed for the start, or for nobody yet, and the kernel maps 64 kB of it
//! around each place that runs. What is handed back stays in the page cache, where it is cheap to
//! fetch again and the first to go when the router needs memory.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use tokio::time;
use tracing::debug;

use crate::clock;
use crate::domain::names::BootTime;

/// How often the program is handed back: as often as anybody looks at the system again, see [`beat`].
/// What such a look runs is a third of it; to map that again takes the processor 0.1 ms.
const EVERY: Duration = Duration::from_secs(2);
/// What is due at a beat is over by then.
const AFTER: Duration = Duration::from_millis(10);
/// So often must nobody have asked for a page before it is handed back.
const QUIET: u32 = 10;

/// Hands back the program's code and constants, now and after each beat, while no page was asked for
/// in 20 s: no guest waits for what is mapped again. `served` counts them.
pub async fn keep_small(served: impl Fn() -> u32) {
    // It stays there; to find it maps a quarter of it.
    let program = program();
    let (mut before, mut quiet) = (served(), QUIET);
    loop {
        if quiet >= QUIET {
            hand_back(&program);
        }
        beat(EVERY).await;
        time::sleep(AFTER).await;
        let now = served();
        quiet = if now == before { quiet.saturating_add(1) } else { 0 };
        before = now;
    }
}

/// Waits until the boot clock is a multiple of `period`. What is due again and again, and no guest
/// waits for, is due together: the processor wakes once, and [`keep_small`] knows when it is over.
pub async fn beat(period: Duration) {
    time::sleep(until_beat(clock::boot(), period)).await;
}

fn until_beat(now: BootTime, period: Duration) -> Duration {
    let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(period - now.0 % period)
}

/// Where the program's code and constants are.
fn program() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(unchanging).collect()
}

/// Unmaps the program's code and constants; what is used from here on is mapped again.
fn hand_back(program: &[Range<usize>]) {
    for pages in program {
        if let Err(problem) = unmap(pages) {
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
    fn what_is_due_again_and_again_is_due_together() {
        for (now, due) in [(0, 2000), (1, 2000), (1999, 2000), (2000, 4000), (9001, 10_000)] {
            assert_eq!(BootTime(now) + until_beat(BootTime(now), EVERY), BootTime(due));
        }
        // As often as there are five of the others.
        let rarer = until_beat(BootTime(9001), 5 * EVERY);
        assert_eq!(rarer, until_beat(BootTime(9001), EVERY));
    }

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
        hand_back(&program());
        assert!(resident() < before, "{} kB of {before}", resident());
    }

    fn is_code(line: &str) -> bool {
        line.contains(" r-xp ") && unchanging(line).is_some()
    }
}
