use argon2::password_hash::PasswordHasher;
use axum::body::{Body, to_bytes};
use hyper::header::{CONTENT_TYPE, HOST, LOCATION};
use hyper::service::Service as _;

use super::*;
use crate::adapters::store::report::{Present, Repeat};
use crate::clock::Trust;
use crate::domain::names::{Mac, WallTime};

const HOST_NAME: &str = "192.0.2.1:8080";

fn report() -> DayReport {
    let mut by_hour = [0; 24];
    by_hour[9..12].copy_from_slice(&[3, 14, 7]);
    DayReport {
        present: vec![Present {
            mac: Mac([2, 0, 0x5e, 0x10, 0, 1]),
            hostname: Some("<b>phone</b>".into()),
            mask: Some("*42".into()),
            since: Some(WallTime(1_767_229_200_000)), // 2026-01-01T01:00Z
            dwell: Duration::from_secs(4000),
            visits: 3,
        }],
        visits: 24,
        visitors: 20,
        median: Some(Duration::from_mins(18)),
        mean: Some(Duration::from_mins(31)),
        buckets: [4, 8, 6, 5, 1],
        guests: Repeat { all: 12, again: 5 },
        devices: Repeat { all: 9, again: 1 },
        randomised_percent: Some(61),
        alarm: false,
        by_hour,
    }
}

fn source(result: Result<DayReport, Unavailable>) -> DaySource {
    Arc::new(move || {
        let result = result.clone();
        Box::pin(async move { result })
    })
}

/// Cheap parameters: what is tested is not argon2.
fn hash(password: &str) -> String {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::from(params);
    argon2.hash_password_with_salt(password.as_bytes(), b"a salt for tests").unwrap().to_string()
}

fn staff(today: DaySource) -> Staff {
    Staff {
        store: "Jade Mall".into(),
        password_hash: Secret::from(&*hash("correct horse")),
        session: Duration::from_hours(1),
        time_zone: jiff::tz::TimeZone::posix("CST-8").unwrap(),
        visit: Visit::default(),
        clock: Clock::new(Trust::Always),
        texts: Arc::new(Catalogues::load().unwrap()),
        today,
        certificate: None,
    }
}

struct Desk(TowerToHyperService<Router>);

impl Desk {
    fn open(result: Result<DayReport, Unavailable>) -> Self {
        Self(TowerToHyperService::new(router(staff(source(result)), Arc::default()).unwrap()))
    }

    async fn send(&self, request: hyper::http::request::Builder, body: &str) -> (Response, String) {
        let mut request =
            request.header(HOST, HOST_NAME).body(Body::from(body.to_owned())).unwrap();
        let (local, address) = ("192.0.2.1".parse().unwrap(), "192.0.2.50".parse().unwrap());
        request.extensions_mut().insert(Peer { address, local, secure: false, device: None });
        let (parts, body) = self.0.call(request).await.unwrap().into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 22).await.unwrap().into()).unwrap();
        (Response::from_parts(parts, Body::empty()), text)
    }

    async fn login(&self, password: &str) -> (Response, String) {
        self.send(form("/staff/login?lang=en"), &format!("password={password}")).await
    }

    async fn look(&self, cookie: &str) -> (Response, String) {
        self.send(Request::get("/staff?lang=en").header(COOKIE, cookie), "").await
    }
}

fn form(path: &str) -> hyper::http::request::Builder {
    Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded")
}

#[tokio::test]
async fn the_day_is_shown_to_who_knows_the_password() {
    let desk = Desk::open(Ok(report()));
    let (login, _) = desk.login("correct+horse").await;
    assert_eq!(
        (login.status(), &login.headers()[LOCATION]),
        (StatusCode::SEE_OTHER, &HeaderValue::from_static("/staff?lang=en"))
    );
    let set = login.headers()[SET_COOKIE].to_str().unwrap();
    assert!(set.ends_with("; Path=/staff; HttpOnly; SameSite=Strict; Max-Age=3600"), "{set}");
    let cookie = set.split(';').next().unwrap();
    assert_eq!(cookie.len(), "maitred_staff=".len() + 32);

    let (_, page) = desk.look(&format!("other=1; {cookie}")).await;
    for figure in [
        "<b>24</b>",
        "<b>20</b>",
        "<b>18 min</b>",
        "<b>31 min</b>",
        "5 of 12",
        "1 of 9",
        "61%",
        "1 h 6 min",
        "02:00:5e:10:00:01",
        "*42",
        "09:00",
        "10:00 with 14",
        "within 15 min",
        "at least 5 min",
        "under 5 min",
        "1 h to 6 h",
        "content=\"30\"",
    ] {
        assert!(page.contains(figure), "{figure} is missing in {page}");
    }
    assert!(!page.contains("<b>phone</b>"), "a host name is text");
    assert_eq!(page.matches("<rect x=").count(), 3);

    let logout = form("/staff/logout").header(COOKIE, cookie);
    let (logout, _) = desk.send(logout, "").await;
    assert!(logout.headers()[SET_COOKIE].to_str().unwrap().ends_with("Max-Age=0"));
    assert!(!desk.look(cookie).await.1.contains("02:00:5e"));
}

#[tokio::test]
async fn forged_cookies_open_nothing() {
    let desk = Desk::open(Ok(report()));
    let (login, _) = desk.login("correct+horse").await;
    let set = login.headers()[SET_COOKIE].to_str().unwrap();
    let token = set.split(['=', ';']).nth(1).unwrap();
    let flipped = if token.starts_with('0') { "1" } else { "0" };
    for forged in [
        String::new(),
        "maitred_staff=".into(),
        format!("maitred_staff={}", "0".repeat(32)),
        format!("maitred_staff={flipped}{}", &token[1..]),
        format!("maitred_staff={}", &token[..31]),
        format!("maitred_staff={token}00"),
        format!("maitred_staff2={token}"),
        format!("xmaitred_staff={token}"),
        format!("maitred_staff=0; {}maitred_staff={token}", "maitred_staff=0; ".repeat(9)),
    ] {
        let (_, page) = desk.look(&forged).await;
        assert!(page.contains("type=\"password\"") && !page.contains("02:00:5e"), "{forged}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let desk = Desk::open(Ok(report()));
    for _ in 0..3 {
        let (refused, page) = desk.login("guess").await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert!(page.contains("not the password") && !page.contains("guess"));
    }
    let (late, page) = desk.login("correct+horse").await;
    assert_eq!(late.status(), StatusCode::TOO_MANY_REQUESTS, "even the right one waits");
    assert!(late.headers().contains_key(RETRY_AFTER) && page.contains("Too many tries"));
    assert!(!late.headers().contains_key(SET_COOKIE));
}

#[tokio::test]
async fn foreign_and_broken_forms_are_refused() {
    let desk = Desk::open(Ok(report()));
    let foreign = form("/staff/login").header("origin", "http://evil.example");
    let (refused, _) = desk.send(foreign, "password=correct+horse").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    for body in ["", "word=x", "password=a&password=b", &format!("password={}", "x".repeat(5000))] {
        let (refused, _) = desk.send(form("/staff/login"), body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{body:.20}");
    }
    for path in ["/", "/staff/login", "/staff/../etc/passwd", "/x"] {
        let (away, _) = desk.send(Request::get(path), "").await;
        assert_eq!(away.headers()[LOCATION], "/staff", "{path}");
    }
}

#[tokio::test]
async fn an_empty_day_and_an_unreadable_record_have_pages() {
    let open = async |result| {
        let desk = Desk::open(result);
        let (login, _) = desk.login("correct+horse").await;
        let set = login.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        desk.look(set.split(';').next().unwrap()).await
    };
    let (shown, page) = open(Ok(DayReport::default())).await;
    assert_eq!(shown.status(), StatusCode::OK);
    assert!(page.contains("No device is in the store now") && page.contains("<b>none</b>"));
    let (broken, page) = open(Err(Unavailable)).await;
    assert_eq!(broken.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.contains("cannot be read"));
}

#[tokio::test]
async fn a_full_mall_fits_on_the_page() {
    let mut full = report();
    full.present = vec![full.present[0].clone(); 10_000];
    full.by_hour = [u32::MAX; 24];
    full.buckets = [u32::MAX; 5];
    let desk = Desk::open(Ok(full));
    let (login, _) = desk.login("correct+horse").await;
    let set = login.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    let (_, page) = desk.look(set.split(';').next().unwrap()).await;
    assert!(page.contains("<b>10000</b>") && page.contains("9800 more"));
    assert!(page.len() < 100_000, "{}", page.len());
}
