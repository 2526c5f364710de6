//! What the server's API says of meetings: asked until it has everything, or for so long.

use std::io;
use std::time::{Duration, Instant};

use signaling::attendance::Summary;

use super::truth::Stay;
use crate::dial::Trust;
use crate::metrics;

/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(200);

/// Whom to ask, and as whom.
#[derive(Clone)]
pub struct Api {
    /// `http://host:port` or `https://host`.
    pub url: String,
    /// The operator's key; it does not print itself.
    pub admin_key: String,
    /// Whose certificate is believed, for `https://`.
    pub trust: Trust,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({})", self.url)
    }
}

/// The summaries of all meetings that people were in, once everybody has left by them; as they are when `patience` is over.
///
/// # Errors
/// If the server cannot be asked or refuses.
pub async fn summaries(api: &Api, stays: &[Stay], patience: Duration) -> io::Result<Vec<Summary>> {
    let mut meetings: Vec<&str> = stays.iter().map(|stay| &*stay.meeting).filter(|it| !it.is_empty()).collect();
    meetings.sort_unstable();
    meetings.dedup();
    let end = Instant::now() + patience;
    let mut summaries = Vec::new();
    for meeting in meetings {
        loop {
            let url = format!("{}/v1/meetings/{meeting}/attendance", api.url.trim_end_matches('/'));
            let answer = metrics::get(&url, Some(&api.admin_key), &api.trust).await;
            let over = Instant::now() >= end;
            match answer {
                Ok(body) => {
                    let summary: Summary = serde_json::from_str(&body).map_err(io::Error::other)?;
                    if over || is_complete(&summary, stays) {
                        summaries.push(summary);
                        break;
                    }
                }
                // It may not have come to the database yet.
                Err(error) if over && error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) if over => break,
                Err(_) => {}
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
    Ok(summaries)
}

/// Whether a summary has an end for everybody of ours.
fn is_complete(summary: &Summary, stays: &[Stay]) -> bool {
    let ours = stays.iter().filter(|stay| *stay.meeting == *summary.meeting_id);
    ours.into_iter().all(|stay| {
        let known = summary.participants.iter().find(|person| *person.user_id == *stay.user);
        known.is_some_and(|person| person.last_leave_at.is_some())
    })
}
