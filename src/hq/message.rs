//! WeChat's messages: XML ↔ types.

use askama::Template;
use roxmltree::Document;

use crate::domain::names::OpenId;

/// What a push brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Push {
    /// Who.
    pub(super) from: OpenId,
    /// The account, as it names itself in answers.
    pub(super) to: String,
    /// What makes it one of a kind besides its sender: its id, or for events their time and kind.
    pub(super) mark: String,
    pub(super) what: What,
}

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Began to follow, by a QR code with this scene.
    Subscribe(Option<String>),
    /// Follows, and scanned a QR code with this scene.
    Scan(String),
    /// Sent a text.
    Text(String),
    /// Follows no more.
    Unsubscribe,
    /// Something that is not ours to answer.
    Other,
}

/// Reads a push; `None` if it is none.
pub(super) fn read(xml: &str) -> Option<Push> {
    let document = Document::parse(xml).ok()?;
    let field = |name| field(&document, name);
    let key = field("EventKey").filter(|key| !key.is_empty());
    let event = field("Event").unwrap_or_default();
    let what = match (field("MsgType")?, event) {
        ("event", "subscribe") => {
            What::Subscribe(key.and_then(|key| key.strip_prefix("qrscene_")).map(str::to_owned))
        }
        ("event", "SCAN") => What::Scan(key?.to_owned()),
        ("event", "unsubscribe") => What::Unsubscribe,
        ("text", _) => What::Text(field("Content")?.to_owned()),
        _ => What::Other,
    };
    let mark = match field("MsgId") {
        Some(id) => id.to_owned(),
        None => format!("{} {event}", field("CreateTime")?),
    };
    let (from, to) = (OpenId::parse(field("FromUserName")?)?, field("ToUserName")?.to_owned());
    Some(Push { from, to, mark, what })
}

/// The sealed text of a push in safe mode.
pub(super) fn sealed(xml: &str) -> Option<String> {
    Some(field(&Document::parse(xml).ok()?, "Encrypt")?.to_owned())
}

/// An answer with a text, at `seconds` since 1970.
#[derive(Template)]
#[template(path = "hq/answer.xml")]
pub(super) struct Answer<'a> {
    pub(super) push: &'a Push,
    pub(super) seconds: i64,
    pub(super) text: &'a str,
}

/// A sealed answer.
#[derive(Template)]
#[template(path = "hq/sealed.xml")]
pub(super) struct Sealed<'a> {
    pub(super) text: &'a str,
    pub(super) signature: &'a str,
    pub(super) seconds: i64,
    pub(super) nonce: &'a str,
}

/// The text of a child of the root.
fn field<'d>(document: &'d Document<'_>, name: &str) -> Option<&'d str> {
    let mut children = document.root_element().children();
    children.find(|child| child.has_tag_name(name)).map(|child| child.text().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(rest: &str) -> Option<Push> {
        read(&format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
             <FromUserName><![CDATA[oABC-1_x]]></FromUserName>\
             <CreateTime>1714037059</CreateTime>{rest}</xml>"
        ))
    }

    fn event(name: &str, key: &str) -> Option<Push> {
        push(&format!(
            "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{name}]]></Event>\
             <EventKey><![CDATA[{key}]]></EventKey>"
        ))
    }

    #[test]
    fn pushes_are_read() {
        let what = |push: Option<Push>| push.unwrap().what;
        assert_eq!(what(event("subscribe", "qrscene_AB")), What::Subscribe(Some("AB".into())));
        assert_eq!(what(event("subscribe", "")), What::Subscribe(None));
        assert_eq!(what(event("SCAN", "AB")), What::Scan("AB".into()));
        assert_eq!(what(event("unsubscribe", "")), What::Unsubscribe);
        assert_eq!(what(event("CLICK", "x")), What::Other);
        assert_eq!(event("SCAN", ""), None);
        let text = push(
            "<MsgType>text</MsgType><Content><![CDATA[a <b> & c]]></Content><MsgId>12</MsgId>",
        );
        let text = text.unwrap();
        assert_eq!((text.what, &*text.mark), (What::Text("a <b> & c".into()), "12"));
        assert_eq!((text.from.reveal(), &*text.to), ("oABC-1_x", "gh_1"));
        assert_eq!(event("SCAN", "AB").unwrap().mark, "1714037059 SCAN");
        assert_eq!(sealed("<xml><Encrypt><![CDATA[abc=]]></Encrypt></xml>").unwrap(), "abc=");
    }

    #[test]
    fn entities_of_a_documents_own_are_refused() {
        let bomb = "<!DOCTYPE xml [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>\
                    <xml><Encrypt>&b;</Encrypt></xml>";
        assert_eq!(sealed(bomb), None);
        let file = "<!DOCTYPE xml [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\
                    <xml><Encrypt>&a;</Encrypt></xml>";
        assert_eq!(sealed(file), None);
    }

    #[test]
    fn answers_read_back_whatever_is_in_them() {
        let push = Push { to: "gh_<1>".into(), ..event("SCAN", "AB").unwrap() };
        let text = "]]> & <a href=\"x\">";
        let xml = Answer { push: &push, seconds: 7, text }.render().unwrap();
        let document = Document::parse(&xml).unwrap();
        assert_eq!(field(&document, "Content"), Some(text));
        assert_eq!(field(&document, "FromUserName"), Some("gh_<1>"));
        assert_eq!(field(&document, "ToUserName"), Some("oABC-1_x"));
    }

    proptest! {
        #[test]
        fn no_text_is_fatal(text in ".{0,300}") {
            let _ = (read(&text), sealed(&text), push(&text));
        }
    }
}
