use std::sync::Mutex;
use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::service::Service as _;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::adapters::http::brand::Parts;
use crate::adapters::inbox::Envelope;
use crate::domain::effect::{EndReason, Report};
use crate::domain::event::Language;
use crate::domain::names::{Mac, ZoneId};

const HOST_NAME: &str = "192.0.2.1:2050";

fn peer() -> Peer {
    Peer {
        secure: false,
        address: "192.0.2.77".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        device: Some((ZoneId(0), Mac([0x02, 0, 0x5e, 0x10, 0, 1]))),
    }
}

fn brands(parts: Parts) -> Brands {
    watch::channel(Arc::new(Brand::new(parts))).1
}

fn portal(store: &str) -> Portal {
    Portal {
        brand: brands(Parts { name: store.into(), terms_version: "7".into(), ..Parts::default() }),
        line: watch::channel(Line::Up).1,
        address: PortalAddress { name: None, port: 2050 },
        country: "86".into(),
        wechat: Wechat::default(),
        vouchers: true,
        api: None,
        guests: None,
        texts: Arc::new(Catalogues::load().unwrap()),
    }
}

/// A portal whose domain always answers `view`, and what it was asked.
struct Stage {
    router: TowerToHyperService<Router>,
    asked: Arc<Mutex<Vec<(Client, Ask)>>>,
    counts: Arc<Counts>,
}

impl Stage {
    fn new(view: View) -> Self {
        Self::of(portal("Jade Mall"), Answer::Portal(view))
    }

    fn of(portal: Portal, answer: Answer) -> Self {
        let (inbox, mut outlet) = Inbox::new();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Some(Envelope { event, reply }) = outlet.recv().await {
                let Event::Portal { client, ask, .. } = event else { panic!("{event:?}") };
                heard.lock().unwrap().push((client, ask));
                reply.unwrap().1.send(answer.clone()).unwrap();
            }
        });
        let counts = Arc::<Counts>::default();
        let router = TowerToHyperService::new(router(portal, inbox, Arc::clone(&counts)));
        Self { router, asked, counts }
    }

    async fn send(&self, request: hyper::http::request::Builder, body: &str) -> Page {
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(peer());
        Page::of(self.router.call(request).await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Page {
        self.send(Request::builder().uri(path).header(HOST, HOST_NAME), "").await
    }

    async fn post(&self, path: &str, form: &str) -> Page {
        self.send(form_to(path).header(HOST, HOST_NAME), form).await
    }

    fn asked(&self) -> Vec<Ask> {
        self.asked.lock().unwrap().drain(..).map(|(_, ask)| ask).collect()
    }
}

fn form_to(path: &str) -> hyper::http::request::Builder {
    Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded")
}

struct Page {
    status: u16,
    headers: hyper::HeaderMap,
    text: String,
}

impl Page {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(body.into()).unwrap();
        Self { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    fn location(&self) -> &str {
        self.headers[LOCATION].to_str().unwrap()
    }
}

fn ask_phone() -> View {
    View::Phone { refusal: None }
}

fn ask_code(refusal: Option<Refusal>) -> View {
    View::Code { mask: "*42".into(), digits: 6, resend_in: Duration::from_secs(58), refusal }
}

fn every_view() -> Vec<View> {
    let refused = Some(Refusal::TooSoon { wait: Duration::from_secs(3) });
    vec![
        ask_phone(),
        View::Phone { refusal: Some(Refusal::Country) },
        View::Return,
        ask_code(None),
        ask_code(refused),
        View::Online {
            left: None,
            used: (1, 2),
            quota_left: Some(3),
            extend: true,
            devices: Vec::new(),
        },
        View::Ended { reason: EndReason::Quota, extend: false },
        View::Ended { reason: EndReason::SessionTimeout, extend: true },
        View::Follow { pass: Some(Duration::from_secs(60)), refusal: None },
        View::Blocked,
    ]
}

#[tokio::test]
async fn every_step_has_a_small_closed_page_in_both_languages() {
    for view in every_view() {
        let stage = Stage::new(view.clone());
        for (path, tag) in [("/?lang=en", "en"), ("/?lang=zh-CN", "zh-CN"), ("/", "zh-CN")] {
            let page = stage.get(path).await;
            assert_eq!(page.status, 200);
            assert!(page.text.contains(&format!("<html lang=\"{tag}\">")), "{view:?}");
            assert!(page.text.len() < 10_000, "{} bytes for {view:?}", page.text.len());
            assert!(!page.text.contains("//"), "nothing from elsewhere: {}", page.text);
            assert_eq!(page.headers[CONTENT_TYPE], "text/html; charset=utf-8");
            assert_eq!(page.headers["cache-control"], "no-store");
            assert_eq!(page.headers["x-content-type-options"], "nosniff");
            assert_eq!(page.headers["referrer-policy"], "same-origin");
            let policy = page.headers["content-security-policy"].to_str().unwrap();
            for (name, list) in [("style", "style-src "), ("script", "script-src ")] {
                let mut directives = policy.split("; ");
                let list = directives.find_map(|directive| directive.strip_prefix(list)).unwrap();
                let allowed: Vec<&str> = list.split(' ').collect();
                assert_eq!(allowed.len(), 2, "{policy}");
                for text in texts(&page.text, name) {
                    let hash = data_encoding::BASE64.encode(&Sha256::digest(text));
                    assert!(allowed.contains(&format!("'sha256-{hash}'").as_str()), "{text}");
                }
            }
            assert!(policy.starts_with("default-src 'none';"));
            assert!(!policy.contains("unsafe") && !policy.contains("script-src 'self'"));
        }
    }
}

/// The texts of the page's elements of this name, of which none has attributes.
fn texts<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let texts: Vec<&str> =
        page.split(&start).skip(1).map(|rest| rest.split(&end).next().unwrap()).collect();
    assert!(
        !texts.is_empty() && texts.len() == page.matches(&format!("<{name}")).count(),
        "{page}"
    );
    texts
}

/// The page's scripts, which are ours.
fn scripts(page: &str) -> String {
    let own = Brand::new(Parts::default());
    let scripts = texts(page, "script");
    assert!(
        scripts.iter().all(|text| [&own.script, &own.live].contains(&&(*text).to_owned())),
        "{page}"
    );
    scripts.concat()
}

#[tokio::test]
async fn a_number_is_read_at_the_door_and_handed_on() {
    let stage = Stage::new(ask_code(None));
    let page = stage.post("/phone?lang=en", "phone=138+0013-8000&terms=yes&marketing=yes").await;
    assert_eq!((page.status, page.location()), (303, "/?lang=en"));
    assert_eq!(stage.asked.lock().unwrap()[0].0.mac, peer().device.unwrap().1);
    let asked = stage.asked();
    let [Ask::RequestCode { phone, language, consent }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(phone.digits(), "8613800138000");
    assert_eq!(*language, Language::English);
    assert_eq!(*consent, Consent { terms: "7".into(), marketing: true });
}

#[tokio::test]
async fn what_is_no_number_or_no_consent_goes_no_further() {
    let stage = Stage::new(ask_code(None));
    for (form, message) in [
        ("phone=12345&terms=yes", "not a phone number"),
        ("phone=&terms=yes", "not a phone number"),
        ("phone=%ff%fe&terms=yes", "not a phone number"),
        ("phone=13800138000%0d%0aSet-Cookie:+a=b&terms=yes", "not a phone number"),
        ("phone=13800138000", "accept the Wi-Fi terms"),
    ] {
        let page = stage.post("/phone?lang=en", form).await;
        assert_eq!(page.status, 200, "{form}");
        assert!(page.text.contains(message) && page.text.contains("role=\"alert\""), "{form}");
        assert!(!page.headers.contains_key("set-cookie"));
    }
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn refusals_are_shown_at_once_and_success_is_a_navigation() {
    let wrong = Stage::new(ask_code(Some(Refusal::WrongCode { left: 2 })));
    let page = wrong.post("/code?lang=en", "code=111111").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Tries left: 2") && page.text.contains("aria-invalid"));

    let online = Stage::new(View::Online {
        left: None,
        used: (0, 0),
        quota_left: None,
        extend: false,
        devices: Vec::new(),
    });
    let page = online.post("/code", "code=+%EF%BC%94%EF%BC%982%20913").await;
    assert_eq!((page.status, page.location()), (303, "/"));
    let asked = online.asked();
    assert!(matches!(&asked[..], [Ask::SubmitCode { code }] if code == "482913"), "{asked:?}");
}

#[tokio::test]
async fn the_other_forms_and_the_follow_link_reach_the_domain() {
    let stage = Stage::new(ask_phone());
    assert_eq!(stage.post("/change", "").await.status, 303);
    assert_eq!(stage.post("/resend?lang=en", "").await.status, 303);
    assert_eq!(stage.post("/logout", "").await.status, 303);
    let asked = stage.asked();
    let [Ask::ChangeNumber, Ask::ResendCode { language }, Ask::Logout] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(*language, Language::English);
    // Whatever looks at the account's link spends nothing.
    let link = "/f/abc.DEF-_1";
    let page = stage.get(link).await;
    assert!(page.status == 200 && page.text.contains("action=\"/f/abc.DEF-_1"), "{}", page.text);
    let page = stage.post(link, "").await;
    assert!(page.status == 200 && page.text.contains("role=\"alert\""), "{}", page.text);
    assert_eq!(stage.get("/f/..%2Flogout").await.status, 302);
    assert!(stage.asked().iter().all(|ask| matches!(ask, Ask::Look)));
    assert_eq!(stage.post(link, "terms=yes").await.status, 303);
    let asked = stage.asked();
    let [Ask::Follow { token, consent }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(token, "abc.DEF-_1");
    assert!(!consent.terms.is_empty() && !consent.marketing);

    let refused = Stage::new(View::Phone { refusal: Some(Refusal::TokenUsed) });
    let page = refused.post("/f/abc?lang=en", "terms=yes").await;
    assert!(page.status == 200 && page.text.contains("used before"));
}

#[tokio::test]
async fn unknown_ways_lead_home() {
    let stage = Stage::new(ask_phone());
    for path in [
        "/x",
        "/phone",
        "/code",
        "/logout",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e",
        "/f/",
        "/f/a/b",
        "/favicon.ico",
        "//evil.example/",
        "/generate_204",
    ] {
        let page = stage.get(path).await;
        assert_eq!((page.status, page.location()), (302, "/"), "{path}");
    }
    let wrong_method = Request::builder().method("DELETE").uri("/phone").header(HOST, HOST_NAME);
    assert_eq!(stage.send(wrong_method, "").await.status, 405);
    let posted = stage.post("/", "phone=1").await;
    assert_eq!(posted.status, 405);
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn other_names_are_sent_to_ours_and_foreign_forms_are_refused() {
    let stage = Stage::new(ask_phone());
    for host in ["evil.example", "192.0.2.9:2050", "192.0.2.1.evil.example", "é", ""] {
        let page = stage.send(Request::builder().uri("/").header(HOST, host), "").await;
        assert_eq!((page.status, page.location()), (302, "http://192.0.2.1:2050/"), "{host}");
        let page = stage.send(form_to("/logout").header(HOST, host), "").await;
        assert_eq!(page.status, 403, "{host}");
    }
    for (name, value) in
        [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
    {
        let request = form_to("/logout").header(HOST, HOST_NAME).header(name, value);
        assert_eq!(stage.send(request, "").await.status, 403, "{name}: {value}");
    }
    assert!(stage.asked().is_empty());
    let own = form_to("/logout").header(HOST, HOST_NAME).header("origin", "http://192.0.2.1:2050");
    assert_eq!(stage.send(own, "").await.status, 303);
}

#[tokio::test]
async fn a_form_is_small_and_a_form() {
    let stage = Stage::new(ask_code(None));
    let large = format!("phone=13800138000&terms=yes&x={}", "a".repeat(5000));
    assert_eq!(stage.post("/phone", &large).await.status, 400);
    assert_eq!(stage.post("/phone", "terms=yes").await.status, 400);
    assert_eq!(stage.post("/phone", "phone=1&phone=2").await.status, 400);
    let json = Request::post("/phone").header(HOST, HOST_NAME).header(CONTENT_TYPE, "text/plain");
    assert_eq!(stage.send(json, "phone=13800138000&terms=yes").await.status, 400);
    assert_eq!(stage.counts.malformed.load(Ordering::Relaxed), 4);
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn nobody_is_served_without_a_device() {
    let stage = Stage::new(ask_phone());
    let unknown = Peer { device: None, ..peer() };
    for forged in
        [None, Some(("x-forwarded-for", "192.0.2.5")), (Some(("x-mac", "02:00:5e:10:00:01")))]
    {
        let mut request = Request::builder().uri("/").header(HOST, HOST_NAME);
        if let Some((name, value)) = forged {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(unknown);
        let page = Page::of(stage.router.call(request).await.unwrap()).await;
        assert_eq!(
            (page.status, &page.headers[RETRY_AFTER]),
            (503, &HeaderValue::from_static("3"))
        );
    }
    assert!(stage.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_busy_gateway_says_so() {
    let (inbox, outlet) = Inbox::new();
    let silent = Stage {
        router: TowerToHyperService::new(router(portal("Jade Mall"), inbox, Arc::default())),
        asked: Arc::default(),
        counts: Arc::default(),
    };
    let page = silent.get("/?lang=en").await;
    assert!(
        page.status == 503 && page.text.contains("http-equiv=\"refresh\""),
        "no answer in time"
    );
    drop(outlet);
    assert_eq!(silent.get("/").await.status, 503, "the loop is gone");

    let confused = Stage::of(portal("Jade Mall"), Answer::Control(Report::Done));
    assert_eq!(confused.get("/").await.status, 503);
}

#[tokio::test]
async fn terms_and_privacy_are_readable_by_all() {
    let stage = Stage::new(ask_phone());
    for path in ["/terms", "/privacy", "/terms?lang=en", "/privacy?lang=en"] {
        let page = stage.get(path).await;
        assert!(page.status == 200 && page.text.contains("<h1>"), "{path}");
        assert!(page.text.len() < 12_000, "{path}: {} bytes", page.text.len());
    }
    assert!(stage.asked().is_empty());
}

#[path = "wechat/portal_tests.rs"]
mod wechat;

#[path = "vouchers_tests.rs"]
mod vouchers;

#[path = "script_tests.rs"]
mod script;
