//! The script of the pages, and what they give it to work with.

use super::*;

#[tokio::test]
async fn the_script_is_small_and_says_nothing() {
    let stage = Stage::new(ask_phone());
    let page = stage.get("/").await;
    let script = only(&page.text, "script");
    assert!(script.is_ascii() && script.len() <= 2048, "{} bytes", script.len());
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
