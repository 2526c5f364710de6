//! `[webhooks]`: who is told of what happens.

use turn_server::Prefix;

use super::turn::networks;
use super::{Key, Secret, Settings, put};
use crate::outbound;
use crate::webhooks::sign;

/// `[webhooks]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebhookSettings {
    /// One receiver of all events, beside those of the API; empty: none. Its path may be a secret: never logged.
    pub(crate) url: Secret,
    /// What signs for it, `whsec_…`, checked.
    pub(crate) secret: Secret,
    /// What signs events that come from other servers, `whsec_…`; `None`: none are taken.
    pub(crate) receive_secret: Option<sign::Secret>,
    /// Networks that URLs of the API may lead to besides public addresses.
    pub(crate) allow: Vec<Prefix>,
}

fn url(value: &str) -> Result<Secret, String> {
    let value = value.trim();
    outbound::check(value)
        .map_err(|why| format!("expected a URL such as https://school.example/hooks. {}", why.why))?;
    Ok(Secret(value.to_owned()))
}

fn secret(value: &str) -> Result<Secret, String> {
    sign::Secret::parse(value).map(|_| Secret(value.trim().to_owned()))
}

/// Whether a setting of this name is a secret, so that no error shows it.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(name, "url" | "secret" | "receive_secret")
}

/// Refuses what does not fit together.
pub(super) fn check(settings: &Settings) -> Result<(), &'static str> {
    let webhooks = &settings.webhooks;
    if !webhooks.url.0.is_empty() && webhooks.secret.0.is_empty() {
        return Err("[webhooks] url is set, but [webhooks] secret is not: its receiver could not know who sends; \
            `echo whsec_$(openssl rand -base64 32)` gives one");
    }
    Ok(())
}

pub(super) const KEYS: &[Key] = &[
    Key { section: "webhooks", name: "url", list: false, set: |s, v| put(&mut s.webhooks.url, url(&v[0])) },
    Key { section: "webhooks", name: "secret", list: false, set: |s, v| put(&mut s.webhooks.secret, secret(&v[0])) },
    Key {
        section: "webhooks",
        name: "receive_secret",
        list: false,
        set: |s, v| put(&mut s.webhooks.receive_secret, sign::Secret::parse(&v[0]).map(Some)),
    },
    Key { section: "webhooks", name: "allow", list: true, set: |s, v| put(&mut s.webhooks.allow, networks(v)) },
];
