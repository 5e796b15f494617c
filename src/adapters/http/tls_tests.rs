//! Certificates of a small authority, good and bad.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

const NAME: &str = "wifi.example";
/// 2026-07-01 00:00 UTC.
const JULY: i64 = 1_782_864_000_000;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// A folder with `roots.pem`, `chain.pem`, `key.pem`.
struct Folder(TempDir);

impl Folder {
    /// A certificate for `name`, good until 2026-08-01.
    fn new(name: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let (authority, root) = authority();
        folder.write("roots.pem", &root);
        folder.issue(&authority, name);
        folder
    }

    fn issue(&self, authority: &Issuer<'_, KeyPair>, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Not the authority\'s own default name: a leaf that names itself as issuer is self-signed.
        leaf.distinguished_name.push(DnType::CommonName, NAME);
        leaf.not_before = date_time_ymd(2026, 1, 1);
        leaf.not_after = date_time_ymd(2026, 8, 1);
        self.write("chain.pem", &leaf.signed_by(&key, authority).unwrap().pem());
        self.write("key.pem", &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn files(&self) -> Files {
        let at = |name| self.0.path().join(name);
        Files {
            name: NAME.into(),
            certificate: at("chain.pem"),
            key: at("key.pem"),
            roots: at("roots.pem"),
        }
    }

    fn found(&self, wall: i64) -> Result<Good, CertificateError> {
        let files = self.files();
        files.load().and_then(|key| files.examine(&key.cert, Some(WallTime(wall))))
    }
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.not_before = date_time_ymd(2020, 1, 1);
    root.not_after = date_time_ymd(2040, 1, 1);
    let pem = root.self_signed(&key).unwrap().pem();
    (Issuer::new(root, key), pem)
}

fn now(wall: Option<i64>) -> Now {
    Now { boot: BootTime(1000), wall: wall.map(WallTime) }
}

#[test]
fn an_expiry_is_seen_21_days_ahead() {
    let folder = Folder::new(NAME);
    assert_eq!(folder.found(JULY).unwrap(), Good { expires: None });
    let soon = folder.found(JULY + 11 * DAY).unwrap().expires.unwrap();
    assert_eq!(date(soon), "2026-08-01");
    let expired = folder.found(JULY + 32 * DAY).unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
    let early = folder.found(JULY - 365 * DAY).unwrap_err();
    assert!(early.to_string().contains("not valid yet"), "{early}");
}

#[test]
fn what_phones_refuse_is_not_good() {
    let other = Folder::new("other.example").found(JULY).unwrap_err();
    assert!(matches!(other, CertificateError::Refused(_)), "{other}");
    let folder = Folder::new(NAME);
    folder.write("roots.pem", &authority().1);
    let unknown = folder.found(JULY).unwrap_err();
    assert!(matches!(unknown, CertificateError::Refused(_)), "{unknown}");
    let folder = Folder::new(NAME);
    folder.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let misfit = folder.found(JULY).unwrap_err();
    assert!(matches!(misfit, CertificateError::Key(_)), "{misfit}");
    for name in ["chain.pem", "key.pem", "roots.pem"] {
        let folder = Folder::new(NAME);
        folder.write(name, "nonsense");
        let empty = folder.found(JULY).unwrap_err().to_string();
        assert!(empty.contains(name), "{empty}");
    }
    let files = Folder::new(NAME).files();
    assert!(matches!(files.load(), Err(CertificateError::File { .. })), "the folder is gone");
}

#[test]
fn the_announcement_follows_the_certificate_and_the_clock() {
    let folder = Folder::new("other.example");
    let announced = tempfile::tempdir().unwrap();
    let announcement =
        Announcement::new(announced.path().into(), "https://wifi.example/api", ["br-guest"]);
    let mut keeper = Keeper::new(folder.files(), Some(announcement.clone()), now(Some(JULY)));
    assert!(!announcement.stands(), "for another name");
    let (authority, root) = authority();
    folder.write("roots.pem", &root);
    folder.issue(&authority, NAME);
    keeper.look(now(Some(JULY)));
    assert!(announcement.stands());
    let shown = keeper.shown.0.read().unwrap().clone().unwrap();
    assert_eq!(shown.cert, folder.files().load().unwrap().cert, "the new one is shown");
    keeper.look(now(None));
    assert!(!announcement.stands(), "nobody knows the time");
    assert!(keeper.is_due(now(Some(JULY))), "the clock became right");
    keeper.look(now(Some(JULY)));
    assert!(announcement.stands() && !keeper.is_due(now(Some(JULY))));
    keeper.look(now(Some(JULY + 40 * DAY)));
    assert!(!announcement.stands(), "expired");
    // Half a renewal: what was shown stays.
    folder.write("key.pem", "");
    keeper.look(now(Some(JULY)));
    assert!(!announcement.stands());
    assert!(keeper.shown.0.read().unwrap().is_some());
}
