//! `[webhooks]`: who is told of what happens.

use turn_server::Prefix;

use super::keys::{Key, hidden, texts};
use super::turn::{networks, shown_network};
use super::{Secret, Settings, put};
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

/// Refuses what does not fit together.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    let webhooks = &settings.webhooks;
    if !webhooks.url.0.is_empty() && webhooks.secret.0.is_empty() {
        return Err("[webhooks] url is set, but [webhooks] secret is not: its receiver could not know who sends; \
            `echo whsec_$(openssl rand -base64 32)` gives one"
            .to_owned());
    }
    Ok(())
}

pub(super) const KEYS: &[Key] = &[
    Key::one(
        "webhooks",
        "url",
        "One receiver of all events, beside those of the API. Its path may be a secret: never shown.",
        |s, v| put(&mut s.webhooks.url, url(&v[0])),
        |s| hidden(!s.webhooks.url.0.is_empty()),
    )
    .secret()
    .example(r#""https://school.example/hooks""#),
    Key::one(
        "webhooks",
        "secret",
        "What signs for it: `echo whsec_$(openssl rand -base64 32)` gives one.",
        |s, v| put(&mut s.webhooks.secret, secret(&v[0])),
        |s| hidden(!s.webhooks.secret.0.is_empty()),
    )
    .secret()
    .example(r#""whsec_…""#),
    Key::one(
        "webhooks",
        "receive_secret",
        "What signs webhooks that come from another Lyceum; without it none are taken.",
        |s, v| put(&mut s.webhooks.receive_secret, sign::Secret::parse(&v[0]).map(Some)),
        |s| hidden(s.webhooks.receive_secret.is_some()),
    )
    .secret()
    .example(r#""whsec_…""#),
    Key::list(
        "webhooks",
        "allow",
        "Networks that endpoints of the API may lead to besides public addresses.",
        |s, v| put(&mut s.webhooks.allow, networks(v)),
        |s| texts(s.webhooks.allow.iter().map(shown_network)),
    )
    .example(r#"["10.1.0.0/16"]"#),
];
