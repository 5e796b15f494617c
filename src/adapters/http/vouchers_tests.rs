//! Vouchers and the list of devices, as a browser sees them.

use super::*;

#[tokio::test]
async fn a_scanned_voucher_is_a_page_with_a_form_and_asks_nothing_of_the_domain() {
    let stage = Stage::new(View::Phone { refusal: None });
    let page = stage.get("/v/7K2M-9QXP-4TRW").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("value=\"7K2M-9QXP-4TRW\""), "{}", page.text);
    assert!(page.text.contains("action=\"/voucher\""));
    assert!(matches!(stage.asked()[..], [Ask::Look]), "a GET spends nothing");
    let page = stage.get("/v/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E").await;
    scripts(&page.text);
    assert!(page.text.contains("&#60;script&#62;alert(1)"), "{}", page.text);
    stage.asked();

    let page = stage.post("/voucher", "code=7k2m9qxp4trw&terms=yes").await;
    assert_eq!(page.status, 200);
    let asked = stage.asked();
    let [Ask::UseVoucher { code, consent }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((code.as_str(), consent.terms.as_str()), ("7k2m9qxp4trw", "7"));
    stage.post("/voucher", "code=7k2m9qxp4trw").await;
    let asked = stage.asked();
    let [Ask::UseVoucher { consent, .. }] = &asked[..] else { panic!("{asked:?}") };
    assert!(consent.terms.is_empty(), "no tick, no consent");
    assert_eq!(stage.post("/voucher", "nothing=1").await.status, 400);
    assert_eq!(stage.get("/voucher").await.location(), "/");

    let foreign =
        form_to("/voucher").header(HOST, HOST_NAME).header("origin", "http://evil.example");
    assert_eq!(stage.send(foreign, "code=1&terms=yes").await.status, 403);
    assert!(stage.asked().is_empty());
    let off = Portal { vouchers: false, ..portal("Jade Mall") };
    let stage = Stage::of(off, Answer::Portal(View::Phone { refusal: None }));
    assert_eq!(stage.get("/v/7K2M-9QXP-4TRW").await.location(), "/");
    assert_eq!(stage.post("/voucher", "code=1&terms=yes").await.location(), "/");
    assert!(stage.asked().is_empty() && !stage.get("/").await.text.contains("/voucher"));
}

#[tokio::test]
async fn bad_vouchers_look_alike() {
    let mut pages = Vec::new();
    for view in [
        View::Phone { refusal: Some(Refusal::BadVoucher) },
        View::Follow { pass: None, refusal: Some(Refusal::BadVoucher) },
    ] {
        let stage = Stage::new(view);
        pages.push(stage.post("/voucher?lang=en", "code=0000-0000-0000&terms=yes").await.text);
    }
    assert!(pages[0].contains("role=\"alert\"") && pages[0] == pages[1]);
}

#[tokio::test]
async fn the_online_page_lists_other_devices_with_a_button_each() {
    let device = |session, name: Option<&str>, here| crate::domain::effect::OwnDevice {
        session: crate::domain::names::SessionId(session),
        name: name.map(str::to_owned),
        online_for: Some(Duration::from_mins(61)),
        here,
    };
    let devices =
        vec![device(4, Some("<b>pad"), false), device(5, None, false), device(6, Some("me"), true)];
    let stage = Stage::new(View::Online {
        left: None,
        used: (0, 0),
        quota_left: None,
        extend: false,
        devices,
    });
    let page = stage.get("/?lang=en").await.text;
    assert!(page.contains("&#60;b&#62;pad") && page.contains("1 h 1 min"), "{page}");
    let ends: Vec<&str> = page.split("name=\"session\" value=\"").skip(1).collect();
    assert_eq!(ends.iter().map(|end| &end[..1]).collect::<Vec<_>>(), ["4", "5"]);
    stage.asked();
    let answer = stage.post("/device?lang=en", "session=4").await;
    assert_eq!(answer.location(), "/?lang=en");
    assert!(matches!(stage.asked()[..], [Ask::EndOther { .. }]));
    assert_eq!(stage.post("/device", "session=-1").await.status, 400);
}
