//! The script of the pages, and what they give it to work with.

use super::*;

#[tokio::test]
async fn the_scripts_are_small_and_say_nothing() {
    let first = scripts(&Stage::new(ask_phone()).get("/").await.text);
    let script = scripts(&Stage::new(ask_code(None)).get("/").await.text);
    assert!(first.len() < 500, "what a phone waits for: {} bytes", first.len());
    assert!(script.is_ascii() && script.len() <= 2200, "{} bytes", script.len());
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
