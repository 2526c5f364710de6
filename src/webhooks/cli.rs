//! `lyceum webhook test URL`: one signed event, and what comes back.

use super::sign::Secret;
use crate::clock;
use crate::outbound::{Outbound, Reach};
use crate::store::ENDPOINT_CONFIGURED;

/// Characters of an answer that are shown.
const SHOWN_MAX: usize = 500;

/// Sends `webhook.test` to `url`, signed with `secret` (`whsec_…`; without one, with a new one that is shown). Says what came back
/// and what to do; `Err` if the receiver did not take it.
pub(crate) async fn test(url: &str, secret: Option<&str>) -> Result<String, String> {
    let (secret, is_new) = match secret {
        Some(secret) => (secret.to_owned(), false),
        None => (Secret::generate(), true),
    };
    let signer = Secret::parse(&secret).map_err(|expected| format!("the secret: {expected}"))?;
    let now_ms = clock::now().unix_ms;
    let (id, body) = super::trial(now_ms);
    // Whoever types the URL here may go there.
    let call = super::call(ENDPOINT_CONFIGURED, url, &[signer], &id, &body, now_ms);
    debug_assert_eq!(call.reach, Reach::Configured, "an operator's own URL");
    let mut said = format!("sent {id} with the body\n  {body}\n");
    if is_new {
        said += &format!("signed with a new secret, since none is set; give it to the receiver:\n  {secret}\n");
    }
    let answer = match Outbound::new(&[]).call(call).await {
        Ok(answer) => answer,
        Err(failure) => return Err(format!("{said}no answer ({}): {}", failure.word, failure.why)),
    };
    let text: String =
        String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
    said += &format!("the receiver answered {} {text}\n", answer.status);
    let todo = match answer.status {
        200..=299 => {
            return Ok(format!(
                "{said}It works. Check that the receiver refuses it when the body or the secret is another."
            ));
        }
        300..=399 => "Redirects are not followed: give the URL that it leads to.",
        400 | 401 | 403 => {
            "It refuses: check that it has this secret, and that it verifies the bytes of the body as they came."
        }
        404 | 405 => "There is nothing that takes POST: check the path.",
        410 => "It says that nobody is there any more: a real endpoint would be switched off now.",
        429 => "It asks to be asked less often: a real event would be sent again later.",
        _ => "A real event would be sent again, for 24 hours. Look into the receiver's log.",
    };
    Err(format!("{said}{todo}"))
}
