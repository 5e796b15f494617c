//! What the pages say when something is not as it should be, and how they look.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use maitred::clock;
use serde_json::{Value, json};

use crate::lab::{
    Dhcp, Gateway, Guest, Internet, Lab, ROUTER_V4, Reply, STAFF_V4, Settings, WEB_V4, until,
};

const PAGE: &str = "http://example.com/";

/// The guest's page, in English.
fn page(guest: &Guest) -> Reply {
    guest.get_in("en", &format!("http://{ROUTER_V4}:2050/"))
}

fn zone(more: &str) -> Settings {
    let zone = format!("name = \"guest\"\ninterface = \"br-guest\"\n{more}");
    Settings::new().with("[[zone]]", &zone)
}

fn one_guest(settings: &Settings) -> (Lab, Gateway) {
    let mut lab = Lab::new(1);
    let gateway = lab.maitred(settings);
    lab.guests[0].join(Dhcp::Udhcpc);
    (lab, gateway)
}

#[test]
fn a_spent_quota_leads_to_a_page_that_says_so_at_once() {
    let (lab, gateway) = one_guest(&zone("quota = \"200kB\""));
    let guest = &lab.guests[0];
    guest.log_in(&gateway);
    let start = clock::boot().0;
    let sink = guest.udp(WEB_V4, Internet::SINK);
    (0..200).for_each(|_| drop(sink.send(&[0; 1200])));
    until(Duration::from_secs(6), "the portal", || {
        guest.try_get(&format!("http://{WEB_V4}/")).is_ok_and(|r| r.status == 302).then_some(())
    });
    let took = clock::boot().0 - start;
    let why = page(guest);
    assert!(why.body.contains("The data of this session is used up"), "{why:#?}");
    assert!(!why.has_form("/extend") && took < 4_000, "{took} ms: {why:#?}");
    assert!(guest.submit(&why, "/change", &[]).has_form("/phone"));
}

#[test]
fn a_session_that_ends_under_a_guest_leads_to_the_page_and_on() {
    let (lab, gateway) = one_guest(&zone("session_timeout = \"8s\"\nextend = 2"));
    let guest = &lab.guests[0];
    guest.log_in(&gateway);
    // Before the end: more time, nothing cut.
    let online = page(guest);
    let mut held = guest.connect(WEB_V4, Internet::ECHO).0.unwrap();
    let longer = guest.submit(&online, "/extend", &[]);
    let left = longer.body.split("data-left=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!((9..=16).contains(&left.parse::<u32>().unwrap()), "{longer:#?}");
    assert!(crate::lab::echoes(&mut held).unwrap());
    std::thread::sleep(Duration::from_secs(9));
    assert!(crate::lab::echoes(&mut held).unwrap() && guest.online(), "the first end has passed");
    // After it: no dead network. The old connection is refused, a new request meets the portal.
    until(Duration::from_secs(10), "the end", || (!guest.online()).then_some(()));
    let start = clock::boot().0;
    assert!(crate::lab::echoes(&mut held).is_err());
    let redirect = guest.get(PAGE);
    assert_eq!(redirect.status, 302, "{redirect:#?}");
    let why = guest.get_in("en", &redirect.location());
    assert!(clock::boot().0 - start < 2_000, "a guest waits no longer than that");
    assert!(why.body.contains("The time of this session is used up"), "{why:#?}");
    // It offers to go on, without a code, once more.
    let on = guest.submit(&why, "/extend", &[]);
    assert!(on.has_form("/logout") && !on.has_form("/extend") && guest.online(), "{on:#?}");
    assert!(gateway.next_message(&guest.phone).is_none(), "no second message");
    let count = "SELECT count(*) FROM session";
    assert_eq!(gateway.database(|db| db.query_row(count, [], |row| row.get::<_, i64>(0))), 2);
}

#[test]
fn tries_that_are_too_many_are_answered_with_a_way_on() {
    let code = "resend_after = \"0s\"\nper_device_day = 2\ntries = 2";
    let (lab, gateway) = one_guest(&Settings::new().with("[code]", code));
    let guest = &lab.guests[0];
    let mut at = guest.ask_code(&gateway, PAGE);
    let code = gateway.code_for(&guest.phone);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..2 {
        at = guest.submit(&at, "/code", &[("code", wrong)]);
    }
    let dead = page(guest);
    assert!(dead.body.contains("Too many wrong tries"), "{dead:#?}");
    assert!(!dead.has_form("/code") && dead.has_form("/change"), "{dead:#?}");
    let again = guest.submit(&dead, "/change", &[]);
    let fields = [("phone", guest.phone.as_str()), ("terms", "yes")];
    let again = guest.submit(&again, "/phone", &fields);
    assert!(again.has_form("/code"), "{again:#?}");
    gateway.code_for(&guest.phone);
    // Leaving the sheet for the message and coming back goes on at the code.
    assert!(page(guest).has_form("/code"));
    let change = guest.submit(&again, "/change", &[]);
    let many = guest.submit(&change, "/phone", &fields);
    assert!(many.body.contains("次数过多") || many.body.contains("Too many codes"), "{many:#?}");
    assert!(many.has_form("/phone") && gateway.next_message(&guest.phone).is_none());
}

#[test]
fn the_pages_say_when_the_line_is_down() {
    let mut lab = Lab::new(2);
    let gateway = lab.maitred(&Settings::new().with("[uplink]", "check = true"));
    lab.guests.iter_mut().for_each(|guest| guest.join(Dhcp::Udhcpc));
    let [stranger, online] = &lab.guests[..] else { unreachable!() };
    online.log_in(&gateway);
    let down = "internet line is down";
    assert!(!page(stranger).body.contains(down) && !page(online).body.contains(down));
    lab.router.ip("link set wan down");
    // The portal still opens, and says so.
    let redirect = stranger.get(&format!("http://{WEB_V4}/"));
    assert_eq!(redirect.status, 302);
    until(Duration::from_secs(6), "the page to say so", || {
        page(stranger).body.contains(down).then_some(())
    });
    let first = page(stranger);
    assert!(first.has_form("/phone") && first.body.contains(".notice{"), "{first:#?}");
    let told = page(online);
    assert!(told.body.contains("the line is down</h1>"), "{told:#?}");
    assert_eq!(gateway.json(&["status"])["line"], "down");
    lab.router.ip("link set wan up\nroute add default via 198.51.100.1");
    until(Duration::from_secs(20), "the page to be content", || {
        (!page(online).body.contains(down)).then_some(())
    });
    assert_eq!(gateway.json(&["status"])["line"], "up");
    // Dead behind a good carrier.
    lab.internet.netns.ip("addr del 203.0.113.53/32 dev lo\naddr del 203.0.113.80/32 dev lo");
    lab.internet.netns.ip("addr del 2001:db8:203::80/128 dev lo");
    lab.router.ip("link set wan down");
    std::thread::sleep(Duration::from_secs(3));
    lab.router.ip("link set wan up\nroute add default via 198.51.100.1");
    std::thread::sleep(Duration::from_secs(14));
    assert_eq!(gateway.json(&["status"])["line"], "down", "a route alone is no internet");
    assert!(page(stranger).body.contains(down));
}

#[test]
fn the_brand_is_shown_and_the_page_stays_small() {
    let mut lab = Lab::new(1);
    let (logo, hero) = (lab.folder().join("logo.png"), lab.folder().join("hero.jpg"));
    let head = b"\x89PNG\r\n\x1a\n".as_slice();
    fs::write(&logo, [head, &[7; 3_900]].concat()).unwrap();
    fs::write(&hero, [b"\xff\xd8\xff".as_slice(), &[9; 12_000]].concat()).unwrap();
    let rule = "x".repeat(1_480);
    let brand = format!(
        "name = \"Jade <Mall>\"\ncolour = \"#ffcc00\"\nlogo = {logo:?}\nhero = {hero:?}\n\
         [brand.en]\nrules = [\"{rule}\"]\nterms = [\"Be kind & quiet.\"]\n\
         offers = [{{ title = \"Second cup\", text = \"Half price\", url = \"https://jade.example/a\" }}]"
    );
    let portal = "terms_version = \"2026-07\"";
    let gateway = lab.maitred(&Settings::new().with("[brand]", &brand).with("[portal]", portal));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let first = page(guest);
    assert!(first.body.contains("Jade &#60;Mall&#62;") && first.body.contains(&rule), "{first:#?}");
    let mut bytes = first.body.len();
    for (name, kind) in [("logo", "image/png"), ("hero", "image/jpeg")] {
        let path = first.body.split(&format!("src=\"/{name}")).nth(1).unwrap();
        let path = path.split('"').next().unwrap();
        let url = format!("http://{ROUTER_V4}:2050/{name}{path}");
        let file = lab.folder().join(name);
        let args = ["-o", file.to_str().unwrap(), "-D", "-"];
        let reply = guest.netns.exec(&[&["curl", "-sS", &url], &args[..]].concat()).ok();
        assert!(reply.contains(kind) && reply.contains("nosniff"), "{reply}");
        bytes += fs::read(file).unwrap().len();
    }
    println!("the first page with all its parts: {bytes} bytes");
    assert!((16_000..30_000).contains(&bytes), "{bytes} bytes");
    let policy = &first.headers["content-security-policy"];
    assert!(policy.contains("img-src 'self' data:") && policy.starts_with("default-src 'none'"));
    let terms = guest.get_in("en", &format!("http://{ROUTER_V4}:2050/terms"));
    assert!(terms.body.contains("Be kind &#38; quiet.") && terms.body.contains("Version 2026-07"));
    guest.log_in(&gateway);
    let offer = "<a href=\"https://jade.example/a\">Second cup</a>";
    assert!(page(guest).body.contains(offer), "{:#?}", page(guest));
    let version = "SELECT terms FROM consent";
    let agreed: String = gateway.database(|db| db.query_row(version, [], |row| row.get(0)));
    assert_eq!(agreed, "2026-07");
    // The staff's pages are the store's own.
    let staff = lab.staff.get(&format!("http://{STAFF_V4}:8080/staff"));
    assert!(!staff.body.contains("/logo"), "{staff:#?}");
}

/// HQ's bundles at one address; every request's headers are kept.
pub(crate) struct BundleOffice {
    bundle: Arc<Mutex<Vec<u8>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl BundleOffice {
    pub(crate) const URL: &str = "http://203.0.113.80:8444/bundle";

    pub(crate) fn open(internet: &Internet) -> Self {
        let listener = internet.netns.within(|| TcpListener::bind("203.0.113.80:8444").unwrap());
        let (bundle, heads) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<_>>::default());
        let office = Self { bundle: Arc::clone(&bundle), heads: Arc::clone(&heads) };
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                heads.lock().unwrap().push(head.join("\n"));
                let body = bundle.lock().unwrap().clone();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        office
    }

    fn send(&self, key: &SigningKey, bundle: &Value) {
        let json = bundle.to_string();
        let signature = key.sign(&[b"maitred bundle\0", json.as_bytes()].concat());
        let line = BASE64.encode(&signature.to_bytes());
        self.put(format!("{line}\n{json}").into_bytes());
    }

    /// Gives these bytes from now on.
    pub(crate) fn put(&self, bytes: Vec<u8>) {
        *self.bundle.lock().unwrap() = bytes;
    }
}

#[test]
fn hq_changes_the_brand_by_a_signed_bundle() {
    let mut lab = Lab::new(1);
    let key = SigningKey::from_bytes(&[5; 32]);
    let office = BundleOffice::open(&lab.internet);
    let hq = format!(
        "url = \"{}\"\ntoken = \"t0ken\"\nbundle_url = \"{}\"\nbundle_key = \"{}\"",
        crate::lab::Hq::URL,
        BundleOffice::URL,
        BASE64.encode(key.verifying_key().as_bytes())
    );
    let _hq = crate::lab::Hq::open(&lab.internet, crate::lab::Mood::Well);
    let gateway = lab.maitred(&Settings::new().with("[hq]", &hq));
    lab.guests[0].join(Dhcp::Udhcpc);
    let guest = &lab.guests[0];
    let title = |name: &str| format!("<p class=\"store\">{name}<small>");
    assert!(page(guest).body.contains(&title("Lab")));

    let brand = |version: u32, name: &str| {
        json!({ "version": version, "store": "*", "brand": {
            "name": name,
            "terms_version": "2027-01",
            "en": { "rules": ["No smoking."], "privacy": ["From HQ."] },
        }})
    };
    office.send(&key, &brand(3, "Jade Tower"));
    let summary = gateway.command(&["sync", "--now"]).ok();
    assert!(summary.contains('3'), "{summary}");
    let first = page(guest);
    assert!(first.body.contains(&title("Jade Tower")) && first.body.contains("No smoking."));
    let privacy = guest.get_in("en", &format!("http://{ROUTER_V4}:2050/privacy")).body;
    assert!(privacy.contains("From HQ.") && privacy.contains("Version 2027-01"), "{privacy}");
    let head = office.heads.lock().unwrap()[0].to_lowercase();
    assert!(head.contains("bearer t0ken") && head.contains("maitred-store: lab-1"), "{head}");
    assert!(head.contains("maitred-bundle: 0"), "{head}");

    // A stranger's, an old one, one that is too large: each is refused, and the good one stays.
    let refuse = |reason: &str| {
        let refused = gateway.command(&["sync", "--now"]);
        assert!(!refused.success && refused.stderr.contains(reason), "{refused:?}");
        assert!(page(guest).body.contains(&title("Jade Tower")));
    };
    office.send(&SigningKey::from_bytes(&[6; 32]), &brand(4, "Evil"));
    refuse("not signed");
    office.send(&key, &brand(2, "Old"));
    refuse("version 2");
    *office.bundle.lock().unwrap() = vec![b'x'; 300_000];
    refuse("more than");
    // It is kept over a restart, without HQ.
    gateway.kill9();
    gateway.run();
    assert!(page(guest).body.contains(&title("Jade Tower")));
    // And not believed when somebody changed it on disk.
    gateway.term();
    let file = lab.folder().join("state/bundle");
    let text = fs::read_to_string(&file).unwrap().replace("Jade Tower", "Evil Tower");
    fs::write(&file, text).unwrap();
    gateway.run();
    assert!(page(guest).body.contains(&title("Lab")));
    office.send(&key, &brand(5, "Jade Tower II"));
    gateway.command(&["sync", "--now"]).ok();
    assert!(page(guest).body.contains(&title("Jade Tower II")));
}
