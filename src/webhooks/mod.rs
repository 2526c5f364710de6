//! Webhooks: what happened is told to others, at least once, signed, in the order of the room.
//!
//! Events stand in the store's outbox, put there by the transaction that made them true. `schedule` says when one is tried,
//! `deliver` tries, `sign` signs as [Standard Webhooks](https://www.standardwebhooks.com) do.

pub(crate) mod cli;
mod deliver;
mod schedule;
pub(crate) mod sign;

use serde_json::json;
use turn_server::Prefix;

use crate::clock;
use crate::outbound::{Call, Outbound, Reach, TOTAL_MAX};
use crate::store::{ENDPOINT_CONFIGURED, Recipient};

pub(crate) use self::deliver::{Deliverer, Tally};
#[cfg(test)]
pub(crate) use self::schedule::judge;
pub(crate) use self::schedule::{Outcome, Verdict};
use self::sign::Secret;

/// Longest `webhook-id` that we take from others, in bytes; ours have 36.
pub(crate) const ID_BYTES_MAX: usize = 128;

/// One attempt: the body as it is, signed for this moment with each secret.
fn call(endpoint: &str, url: &str, secrets: &[Secret], id: &str, body: &str, now_ms: u64) -> Call {
    let timestamp = now_ms / 1_000;
    let headers = vec![
        ("content-type".into(), "application/json".to_owned()),
        ("webhook-id".into(), id.to_owned()),
        ("webhook-timestamp".into(), timestamp.to_string()),
        ("webhook-signature".into(), sign::signatures(secrets, id, timestamp, body.as_bytes())),
    ];
    // The operator's own endpoint may be where only the operator knows of; all others came by the API.
    let reach = if endpoint == ENDPOINT_CONFIGURED { Reach::Configured } else { Reach::Public };
    Call { method: "POST", url: url.to_owned(), headers, body: body.as_bytes().to_vec(), reach, deadline: TOTAL_MAX }
}

/// Id and body of an event that says nothing.
fn trial(now_ms: u64) -> (String, String) {
    let data = json!({ "message": "This is a test. Nothing happened." });
    let body = json!({ "type": "webhook.test", "timestamp": now_ms, "data": data, "seq": null, "roomSeq": 0 });
    (format!("msg_test_{:016x}", rand::random::<u64>()), body.to_string())
}

/// Sends `webhook.test` to an endpoint at once, beside what waits for it, and says what came back. Nothing of it is kept.
pub(crate) async fn try_out(to: &Recipient, allow: &[Prefix]) -> Outcome {
    let secrets: Vec<Secret> = to.secrets.iter().filter_map(|text| Secret::parse(text).ok()).collect();
    let now_ms = clock::now().unix_ms;
    let (id, body) = trial(now_ms);
    Outcome::from(Outbound::new(allow).call(call(&to.id, &to.url, &secrets, &id, &body, now_ms)).await)
}

#[cfg(test)]
mod tests;
