//! An HTTP answer, and the forms of the page in it.

use std::collections::BTreeMap;

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The address that was asked.
    pub url: String,
    /// The status.
    pub status: u16,
    /// Headers by lower-case name; the last of each.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Reads what `curl -i` printed for `url`.
    pub(super) fn parse(url: &str, text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            url: url.to_owned(),
            status: status.parse().expect("a status"),
            headers,
            body: body.to_owned(),
        }
    }

    /// Where a redirect leads, as an absolute address.
    #[track_caller]
    pub fn location(&self) -> String {
        let location = self.headers.get("location");
        let location = location.unwrap_or_else(|| panic!("no redirect but {self:#?}"));
        self.absolute(location)
    }

    /// Whether the page has a form that posts there.
    pub fn has_form(&self, action: &str) -> bool {
        self.form(action).is_some()
    }

    /// The address of a form's action and the hidden fields that the page gives it.
    #[track_caller]
    pub(super) fn filled(&self, action: &str) -> (String, Vec<(String, String)>) {
        let form = self.form(action);
        let form = form.unwrap_or_else(|| panic!("no form {action} in {self:#?}"));
        let fields = tags(form, "<input")
            .filter(|tag| attribute(tag, "type") == Some("hidden"))
            .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        (self.absolute(action), fields)
    }

    fn form(&self, action: &str) -> Option<&str> {
        self.body.split("<form").skip(1).find_map(|rest| {
            let form = rest.split("</form").next()?;
            let tag = form.split('>').next()?;
            (attribute(tag, "action") == Some(action)).then_some(form)
        })
    }

    fn absolute(&self, place: &str) -> String {
        if place.starts_with("http") {
            return place.to_owned();
        }
        let host = self.url.split('/').take(3).collect::<Vec<_>>().join("/");
        format!("{host}{place}")
    }
}

fn tags<'a>(html: &'a str, open: &'a str) -> impl Iterator<Item = &'a str> {
    html.split(open).skip(1).filter_map(|rest| rest.split('>').next())
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    tag[start..].split('"').next()
}
