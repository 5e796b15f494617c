//! The journal: an append-only file in front of the database. A group of entries is durable once
//! its frame is here, at the price of one short write; the database is settled far less often,
//! which is what keeps a day's writing to the flash small.
//!
//! A frame is its payload's length and CRC-32 (both 32 bits, little-endian) and the payload, deflated JSON.
//! The first frame is the [`Header`]; a frame cut short by a power cut ends the file.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::effect::Record;
use crate::domain::names::{BootTime, GuestKey, Renamed};

/// No frame is longer; a length above it is damage.
const LONGEST_FRAME: u32 = 16 << 20;
/// Up to this many bytes are stored as they are.
const STORED: u16 = 1024;

/// What every entry of a journal depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Counts up with every journal begun; the database says which ones it has taken in.
    pub generation: u64,
    /// The boot whose clock the times are of.
    pub boot: String,
    /// Wall time − boot time in milliseconds, if that was known when the journal was begun.
    pub offset: Option<i64>,
    /// The zones' names, by [`crate::domain::names::ZoneId`].
    pub zones: Vec<String>,
}

/// Entries that were written together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Group {
    /// When they were written.
    pub at: BootTime,
    /// In the order in which they happened.
    pub entries: Vec<Entry>,
}

/// One change of the database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Something that the domain wants kept.
    Record(Record),
    /// Wall time is known to be the boot clock plus so many milliseconds.
    Clock(i64),
    /// Outbox rows up to this number are in a batch on its way to HQ.
    Cut(i64),
    /// HQ has the outbox rows up to this number.
    Acknowledged(i64),
    /// A run to HQ was completed at this wall time.
    Synced(i64),
    /// A guest is to be forgotten.
    Erased(GuestKey),
    /// HQ says who guests are, or whom to forget.
    Renamed(Renamed),
}

/// An open journal, ready to be appended to.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    length: u64,
    /// The file has its header; without one it takes no group, as nobody could read it back.
    begun: bool,
}

impl Journal {
    /// Opens or creates the file (mode 0600) without reading it; [`Self::begin`] comes next.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Self { length: file.metadata()?.len(), file, begun: false })
    }

    /// Empties the journal and begins a new one.
    pub(super) fn begin(&mut self, header: &Header) -> io::Result<()> {
        self.begun = false;
        self.file.set_len(0)?;
        self.length = 0;
        self.write(header)?;
        self.begun = true;
        Ok(())
    }

    /// Appends a group and waits until it is durable. After an error nothing of it stands.
    pub(super) fn append(&mut self, group: &Group) -> io::Result<()> {
        if !self.begun {
            return Err(io::Error::other("the journal has no header"));
        }
        self.write(group)
    }

    /// It takes groups.
    pub(super) const fn is_begun(&self) -> bool {
        self.begun
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads the header, if the file has a whole one, and the groups behind it.
    pub(super) fn read(&self) -> io::Result<Option<(Header, Groups<impl Read>)>> {
        Groups::open(Window { file: &self.file, at: 0 }, self.length)
    }

    fn write(&mut self, payload: &impl Serialize) -> io::Result<()> {
        let payload = deflate(&serde_json::to_vec(payload)?)?;
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|length| *length <= LONGEST_FRAME)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let mut frame = Vec::with_capacity(8 + payload.len());
        frame.extend(length.to_le_bytes());
        frame.extend(checksum(&payload).to_le_bytes());
        frame.extend(&payload);
        let written = self.file.write_all_at(&frame, self.length);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // If even this fails the frame's remains lie past `length`, and are written over.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += frame.len() as u64;
        Ok(())
    }
}

/// Deflates (RFC 1951). What is short, as one guest's session is, is not worth the 300 kB that the
/// encoder fills first, and becomes one stored block.
fn deflate(json: &[u8]) -> io::Result<Vec<u8>> {
    const FINAL_AND_STORED: u8 = 1;
    if let Ok(length) = u16::try_from(json.len())
        && length <= STORED
    {
        let mut block = Vec::with_capacity(5 + json.len());
        block.push(FINAL_AND_STORED);
        block.extend(length.to_le_bytes());
        block.extend((!length).to_le_bytes());
        block.extend(json);
        return Ok(block);
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(json)?;
    encoder.finish()
}

/// Walks the groups of a journal.
#[derive(Debug)]
pub struct Groups<R> {
    frames: BufReader<R>,
    read: u64,
    length: u64,
}

impl<R: Read> Groups<R> {
    /// Reads the header of a journal of `length` bytes, if there is a whole one; the groups come
    /// behind it.
    pub fn open(journal: R, length: u64) -> io::Result<Option<(Header, Self)>> {
        let mut groups = Self { frames: BufReader::new(journal), read: 0, length };
        Ok(groups.frame()?.map(|header| (header, groups)))
    }

    /// The next whole group; `None` once what follows is damaged or nothing.
    #[allow(clippy::should_implement_trait, reason = "an iterator would hide the errors")]
    pub fn next(&mut self) -> io::Result<Option<Group>> {
        self.frame()
    }

    /// Bytes behind the last whole frame.
    pub fn remains(&self) -> u64 {
        self.length - self.read
    }

    fn frame<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut prefix = [0; 8];
        if !whole(self.frames.read_exact(&mut prefix))? {
            return Ok(None);
        }
        let prefix = u64::from_le_bytes(prefix);
        let (length, crc) = ((prefix & 0xffff_ffff) as u32, (prefix >> 32) as u32);
        if u64::from(length) + 8 > self.remains() || length > LONGEST_FRAME {
            return Ok(None);
        }
        let mut payload = vec![0; length as usize];
        if !whole(self.frames.read_exact(&mut payload))? || checksum(&payload) != crc {
            return Ok(None);
        }
        let Some(value) = decode(&payload) else { return Ok(None) };
        self.read += 8 + u64::from(length);
        Ok(Some(value))
    }
}

/// Reads a frame's payload; `None` if it is damaged or inflates beyond all measure.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let mut json = Vec::new();
    let inflated = DeflateDecoder::new(payload);
    inflated.take(u64::from(LONGEST_FRAME)).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Reads a file from a place of its own, so that appending goes on undisturbed.
#[derive(Debug)]
struct Window<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(payload: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(payload);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { generation: 7, boot: "b".into(), offset: None, zones: vec!["hall".into()] }
    }

    fn group(at: u64) -> Group {
        Group { at: BootTime(at), entries: vec![Entry::Clock(1), Entry::Acknowledged(2)] }
    }

    fn times(journal: &Journal) -> (Vec<u64>, u64) {
        let (_, mut groups) = journal.read().unwrap().unwrap();
        let mut times = Vec::new();
        while let Some(group) = groups.next().unwrap() {
            times.push(group.at.0);
        }
        (times, groups.remains())
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_its_whole_frames() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin(&header()).unwrap();
        let mut ends = vec![journal.length()];
        for at in 1..=3 {
            journal.append(&group(at)).unwrap();
            ends.push(journal.length());
        }
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let journal = Journal::open(&path).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut as u64).count();
            if whole == 0 {
                assert!(journal.read().unwrap().is_none(), "cut at {cut}");
                continue;
            }
            let (times, remains) = times(&journal);
            assert_eq!(times, (1..whole as u64).collect::<Vec<_>>(), "cut at {cut}");
            assert_eq!(remains, cut as u64 - ends[whole - 1]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin(&header()).unwrap();
        journal.append(&group(1)).unwrap();
        let good = usize::try_from(journal.length()).unwrap();
        journal.append(&group(2)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for place in good..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(times(&Journal::open(&path).unwrap()).0, [1], "byte {place}");
        }
    }

    #[test]
    fn beginning_again_forgets_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&folder.path().join("journal")).unwrap();
        journal.begin(&header()).unwrap();
        journal.append(&group(1)).unwrap();
        journal.begin(&header()).unwrap();
        journal.append(&group(9)).unwrap();
        assert_eq!(times(&journal), (vec![9], 0));
    }
}
