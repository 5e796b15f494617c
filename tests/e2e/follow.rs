//! Follow tokens: proof from the store's account, checked without asking anybody.

use crate::lab::{Dhcp, Gateway, Guest, Lab, ROUTER_V4, Settings};

struct Signer {
    file: String,
    public: String,
}

impl Signer {
    fn new(lab: &Lab) -> Self {
        let file = lab.folder().join("follow.key").to_str().unwrap().to_owned();
        let public = Gateway::tool(&["token", "--generate", &file]).ok().trim().to_owned();
        Self { file, public }
    }

    fn settings(&self) -> Settings {
        Settings::new().with("[follow]", &format!("keys = [\"{}\"]", self.public))
    }

    fn token(&self, store: &str, guest: &Guest, lifetime: &str) -> String {
        let key = "5e".repeat(16);
        let args = [
            "token",
            "--key",
            &self.file,
            "--store",
            store,
            "--zone",
            "guest",
            "--mac",
            &guest.mac,
            "--guest",
            &key,
            "--lifetime",
            lifetime,
        ];
        Gateway::tool(&args).ok().trim().to_owned()
    }
}

fn open(guest: &Guest, token: &str) -> u16 {
    guest.open_link(&format!("http://{ROUTER_V4}:2050/f/{token}")).status
}

#[test]
fn a_good_token_opens_for_its_device_once() {
    let mut lab = Lab::new(1);
    let signer = Signer::new(&lab);
    let gateway = lab.maitred(&signer.settings());
    let guest = &mut lab.guests[0];
    guest.join(Dhcp::Udhcpc);
    let token = signer.token("lab-1", guest, "5m");
    let link = format!("http://{ROUTER_V4}:2050/f/{token}");
    let page = guest.get(&link);
    guest.submit(&page, &format!("/f/{token}"), &[]);
    assert!(!guest.online(), "nobody agreed to anything");
    open(guest, &token);
    assert!(guest.online());
    let consent: (String, String, bool) = gateway.database(|db| {
        db.query_row("SELECT terms, method, at NOT NULL FROM consent", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
    });
    assert!(!consent.0.is_empty() && consent.1 == "follow" && consent.2, "{consent:?}");

    gateway.command(&["revoke", &guest.mac]).ok();
    assert!(!guest.online());
    open(guest, &token);
    assert!(!guest.online(), "a token is good once");
    gateway.kill9();
    gateway.run();
    open(guest, &token);
    assert!(!guest.online(), "and once only, whatever happens to the daemon");
    open(guest, &signer.token("lab-1", guest, "5m"));
    assert!(guest.online(), "a new one is good");
}

#[test]
fn tokens_that_open_nothing() {
    let mut lab = Lab::new(2);
    let signer = Signer::new(&lab);
    let _gateway = lab.maitred(&signer.settings());
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [one, two] = &lab.guests[..] else { unreachable!() };

    let expired = signer.token("lab-1", two, "1s");
    let of_another_device = signer.token("lab-1", one, "5m");
    let of_another_store = signer.token("lab-2", two, "5m");
    let mut tampered = signer.token("lab-1", two, "5m");
    let last = tampered.pop().unwrap();
    tampered.push(if last == 'A' { 'B' } else { 'A' });
    let other_key = Signer { file: format!("{}2", signer.file), public: String::new() };
    Gateway::tool(&["token", "--generate", &other_key.file]).ok();
    let of_another_key = other_key.token("lab-1", two, "5m");
    std::thread::sleep(std::time::Duration::from_millis(2100));

    for (what, token) in [
        ("expired", &expired),
        ("another device's", &of_another_device),
        ("another store's", &of_another_store),
        ("tampered", &tampered),
        ("another key's", &of_another_key),
        ("nonsense", &"AAAA".to_owned()),
    ] {
        let status = open(two, token);
        assert!((200..500).contains(&status), "{what}: {status}");
        assert!(!two.online(), "{what}");
    }
    open(one, &of_another_device);
    assert!(one.online(), "the token that was tried elsewhere is still its owner's");
}
