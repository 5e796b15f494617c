//! The scripts of the pages, what they are given to work with, and that there are no others; the styles.

use super::*;

#[tokio::test]
async fn the_scripts_are_small_and_say_nothing() {
    let first = scripts(&Stage::new(ask_phone()).get("/").await.text);
    let script = scripts(&Stage::new(ask_code(None)).get("/").await.text);
    assert!(first.len() < 600, "what a phone waits for: {} bytes", first.len());
    assert!(script.is_ascii() && script.len() <= 2400, "{} bytes", script.len());
    for forbidden in ["eval", "innerHTML", "Function(", "document.write", "import", "//"] {
        assert!(!script.contains(forbidden), "{forbidden}");
    }
    // Every word that a script puts on the page comes with it, whatever the language.
    let page = Stage::new(ask_code(None)).get("/?lang=en").await;
    let left = "data-left=\"58\" data-units=\"{hours} h {minutes} min|{minutes} min|{seconds} s|{hours} h\">58 s<";
    assert!(page.text.contains(left), "{}", page.text);
    assert!(page.text.contains("data-then=\"Nothing came? You can ask for another code now.\""));
    assert!(
        page.text.contains("data-digits=\"6\"") && page.text.contains("data-look=\"/?lang=en\"")
    );
    // It may not look away from what went wrong.
    let page = Stage::new(ask_code(Some(Refusal::NotSent))).get("/").await;
    assert!(!page.text.contains(" data-state="), "{}", page.text);
}

#[tokio::test]
async fn what_people_and_devices_say_is_only_text() {
    let evil = "<script>alert('x')</script>\"&{code}";
    let portal = portal(evil);
    let stage = Stage::of(
        portal,
        Answer::Portal(View::Code {
            mask: evil.into(),
            digits: 6,
            resend_in: Duration::ZERO,
            refusal: None,
        }),
    );
    let page = stage.get("/").await;
    scripts(&page.text);
    assert!(page.text.contains("&#60;script"), "{}", page.text);
    let typed = "phone=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&terms=yes";
    let page = stage.post("/phone", typed).await;
    scripts(&page.text);
    assert!(!page.text.contains("value=\"\">"), "{}", page.text);
}

#[tokio::test]
async fn a_page_has_the_styles_of_what_it_shows() {
    for view in every_view() {
        let page = Stage::new(view.clone()).get("/").await.text;
        let styles = texts(&page, "style").concat();
        for named in page.split("class=\"").skip(1) {
            for class in named.split('"').next().unwrap().split(' ') {
                assert!(styles.contains(&format!(".{class}")), "{class} in {view:?}");
            }
        }
    }
}
