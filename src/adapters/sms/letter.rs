//! What a sender puts into a message.

/// One message.
pub(super) struct Letter {
    /// `+` and digits (ITU-T E.164).
    pub(super) to: String,
    pub(super) code: String,
    pub(super) text: String,
    pub(super) store: String,
    /// How long the code is good.
    pub(super) minutes: String,
}

impl Letter {
    /// The number's digits.
    pub(super) fn digits(&self) -> &str {
        self.to.trim_start_matches('+')
    }

    /// A text with its placeholders filled in, once: no value is searched for placeholders.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            filled.push_str(&rest[..start]);
            rest = &rest[start..];
            let (placeholder, value) = match () {
                () if rest.starts_with("{phone}") => ("{phone}", &*self.to),
                () if rest.starts_with("{code}") => ("{code}", &*self.code),
                () if rest.starts_with("{text}") => ("{text}", &*self.text),
                () if rest.starts_with("{store}") => ("{store}", &*self.store),
                () if rest.starts_with("{minutes}") => ("{minutes}", &*self.minutes),
                () => ("{", "{"),
            };
            filled.push_str(value);
            rest = &rest[placeholder.len()..];
        }
        filled + rest
    }
}

#[cfg(test)]
impl Letter {
    /// A letter whose every part asks for trouble.
    pub(super) fn example() -> Self {
        Self {
            to: "+8613800138000".into(),
            code: "482913".into(),
            text: "[玉石 & \"商场\"] 验证码 482913".into(),
            store: r#"Bob's", "to": "{code}"#.into(),
            minutes: "5".into(),
        }
    }
}
