//! `[follow]` and `[wechat_wifi]`.

use super::{Found, WEB_ADDRESS, absolute, header, web_address};
use crate::config::Config;

pub(super) fn check(config: &Config, found: &mut Found) {
    let follow = &config.follow;
    found.unless(follow.keys.len() <= 2, "follow.keys", "must be two at most");
    if let Some(account) = &follow.account {
        let good = (1..=32).contains(&account.trim().chars().count())
            && !account.chars().any(char::is_control);
        found.unless(good, "follow.account", "must be 1 to 32 printable characters");
        let checked = !follow.keys.is_empty();
        found.unless(checked, "follow.account", "needs follow.keys, to check who follows");
    }
    if let Some(url) = &follow.url {
        found.unless(web_address(url), "follow.url", WEB_ADDRESS);
        found.unless(follow.token.is_some(), "follow.url", "needs follow.token");
    }
    header(follow.token.as_ref(), "follow.token", found);
    if let Some(file) = &follow.ca_file {
        absolute(file, "follow.ca_file", found);
    }
    let Some(wifi) = &config.wechat_wifi else { return };
    for (path, text) in [
        ("wechat_wifi.app_id", &wifi.app_id),
        ("wechat_wifi.shop_id", &wifi.shop_id),
        ("wechat_wifi.ssid", &wifi.ssid),
    ] {
        let good = (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
        found.unless(good, path, "must be 1 to 64 printable bytes");
    }
    found.unless(web_address(&wifi.operator), "wechat_wifi.operator", WEB_ADDRESS);
    header(Some(&wifi.secret_key), "wechat_wifi.secret_key", found);
}
