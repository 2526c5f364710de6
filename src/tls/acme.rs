//! The certificate that the server gets by itself (ACME, RFC 8555): asked for when there is none, renewed when two thirds of its life
//! are over, and kept in the data directory. The authority asks back at the port of pages (TLS-ALPN-01, RFC 8737), so nothing else
//! needs to listen. What fails is said and tried again, rarely enough that no limit of the authority is reached; the certificate from
//! before stays in use.

mod kept;
mod order;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use self::kept::Kept;
use self::order::{Failed, Order};
use super::{Certificates, Held, now_s, x509};
use crate::config::AcmeSettings;
use crate::outbound::Outbound;

/// The ALPN name under which the authority asks (RFC 8737 §4).
pub(crate) const ALPN_ACME: &[u8] = b"acme-tls/1";
/// Longest attempt, from the directory to the certificate.
const ATTEMPT_MAX: Duration = Duration::from_secs(180);
/// How long to wait after so many failures in a row; after more, the last.
const WAITS_S: [i64; 5] = [60, 900, 3_600, 4 * 3_600, 12 * 3_600];
/// What the authority calls too much is left alone for so long.
const LIMITED_S: i64 = 12 * 3_600;
/// Attempts within an hour, restarts counted: Let's Encrypt takes five failed ones.
const ATTEMPTS_PER_HOUR: usize = 4;
const HOUR_S: i64 = 3_600;
/// How long is slept at most: a clock that is put right is seen by then.
const NAP: Duration = Duration::from_secs(60);

/// Gets and renews the certificate.
pub(crate) struct Acme {
    settings: AcmeSettings,
    outbound: Outbound,
    certificates: Certificates,
    kept: Kept,
    hangup: Signal,
    /// Failures in a row.
    failures: usize,
    /// Not before this, Unix s.
    not_before_s: i64,
}

impl Acme {
    /// From now on `SIGHUP` means to try at once.
    pub(crate) fn new(
        settings: &AcmeSettings,
        kept: Kept,
        certificates: Certificates,
        outbound: Outbound,
    ) -> io::Result<Self> {
        let (settings, hangup) = (settings.clone(), signal(SignalKind::hangup())?);
        Ok(Acme { settings, outbound, certificates, kept, hangup, failures: 0, not_before_s: i64::MIN })
    }

    /// Looks after the certificate until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let due_s = self.due_s();
            let nap = Duration::from_secs(u64::try_from(due_s.saturating_sub(now_s())).unwrap_or(0)).min(NAP);
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                _ = self.hangup.recv() => {
                    self.not_before_s = i64::MIN;
                    tracing::info!(due = x509::moment(self.due_s()), "asked to look after the certificate");
                }
            }
            if now_s() >= self.due_s() {
                self.attempt().await;
            }
        }
    }

    /// When the next attempt is due, Unix s.
    fn due_s(&self) -> i64 {
        let renew_s = self.certificates.held.loaded().map(|loaded| renew_s(loaded.facts.validity.clone()));
        renew_s.unwrap_or(i64::MIN).max(self.not_before_s)
    }

    async fn attempt(&mut self) {
        let counts = self.certificates.counts();
        let got = match self.begin().await {
            Ok(()) => tokio::time::timeout(ATTEMPT_MAX, self.order())
                .await
                .unwrap_or_else(|_| Err(Failed::new(format!("it was not done within {} s", ATTEMPT_MAX.as_secs())))),
            Err(Postponed::Until(due_s)) => {
                self.not_before_s = due_s;
                tracing::warn!(
                    next = x509::moment(due_s),
                    "{ATTEMPTS_PER_HOUR} attempts to get a certificate were made within an hour, restarts counted: more would reach the limits of the authority"
                );
                return;
            }
            Err(Postponed::Unwritten(why)) => Err(Failed::new(why)),
        };
        self.certificates.held.answer_challenges(Vec::new());
        match got {
            Ok(()) => {
                self.failures = 0;
                self.certificates.set_trouble(None);
                counts.reloads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let domains = self.settings.domains.join(", ");
                tracing::info!(domains, until = self.certificates.last_day(), "new certificate");
            }
            Err(Failed { why, is_limited }) => {
                let wait_s = if is_limited { LIMITED_S } else { wait_s(self.failures) };
                self.failures += 1;
                self.not_before_s = now_s() + wait_s;
                counts.reload_failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let (domains, next) = (self.settings.domains.join(", "), x509::moment(self.not_before_s));
                let meanwhile = match self.certificates.ends_s() {
                    ends_s if ends_s > now_s() => format!("the one from before stays, until {}", x509::day(ends_s)),
                    _ => "until then there is no HTTPS and no TURN over TLS".to_owned(),
                };
                tracing::warn!(domains, next, "cannot get a certificate: {why}; {meanwhile}");
                self.certificates.set_trouble(Some(why));
            }
        }
    }

    /// Takes note that an attempt is made. One that cannot be noted is not made: nobody could count them after a restart.
    async fn begin(&self) -> Result<(), Postponed> {
        let (kept, now_s) = (self.kept.clone(), now_s());
        let noted = on_disk(move || -> io::Result<Option<i64>> {
            let mut attempts = kept.attempts();
            let free_s = free_s(&attempts, now_s);
            if free_s.is_none() {
                attempts.push(now_s);
                kept.note_attempts(&attempts)?;
            }
            Ok(free_s)
        });
        match noted.await {
            Ok(None) => Ok(()),
            Ok(Some(due_s)) => Err(Postponed::Until(due_s)),
            Err(error) => {
                let place = self.kept.folder().display();
                Err(Postponed::Unwritten(format!("{place} cannot be written: {error}; give it to the server's user")))
            }
        }
    }

    async fn order(&self) -> Result<(), Failed> {
        let order = Order {
            settings: &self.settings,
            outbound: &self.outbound,
            kept: &self.kept,
            held: &self.certificates.held,
        };
        let pem = order.run().await?;
        let certificates = self.certificates.clone();
        on_disk({
            let (kept, pem) = (self.kept.clone(), pem);
            move || kept.write_certificate(&pem)
        })
        .await
        .map_err(|error| Failed::new(format!("the new certificate cannot be kept: {error}")))?;
        let taken = on_disk(move || Ok(certificates.look())).await;
        let taken = taken.unwrap_or_else(|error| Err(error.to_string())).map_err(Failed::new)?;
        if taken { Ok(()) } else { Err(Failed::new("the authority gave the certificate that was there already")) }
    }
}

/// Why an attempt is not made.
enum Postponed {
    /// There were too many; Unix s.
    Until(i64),
    /// It cannot be noted.
    Unwritten(String),
}

/// A task for a disk that may not answer.
async fn on_disk<T: Send + 'static>(task: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(task).await.map_err(io::Error::other)?
}

/// When a certificate is renewed: two thirds of its life are over.
fn renew_s(validity: std::ops::RangeInclusive<i64>) -> i64 {
    let (begin, end) = validity.into_inner();
    end - (end - begin) / 3
}

fn wait_s(failures: usize) -> i64 {
    WAITS_S[failures.min(WAITS_S.len() - 1)]
}

/// When there may be one more attempt, Unix s; `None`: now. Attempts of the future are those of a clock that was wrong: of the
/// last hour, in doubt.
fn free_s(attempts: &[i64], now_s: i64) -> Option<i64> {
    let mut late: Vec<i64> = attempts.iter().map(|at| (*at).min(now_s)).filter(|at| *at > now_s - HOUR_S).collect();
    late.sort_unstable();
    let first = late.len().checked_sub(ATTEMPTS_PER_HOUR)?;
    late.get(first).map(|at| at + HOUR_S)
}

impl Held {
    /// From now on the authority is answered with these, by name, and with no others.
    fn answer_challenges(&self, answers: Vec<(String, Arc<CertifiedKey>)>) {
        *self.challenges.write().unwrap_or_else(std::sync::PoisonError::into_inner) = answers;
    }

    /// What the authority gets that asks for this name.
    pub(super) fn challenge(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let answers = self.challenges.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = answers.iter().find(|(of, _)| name.is_some_and(|name| of.eq_ignore_ascii_case(name)));
        found.map(|(_, key)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_are_over() {
        assert_eq!(renew_s(0..=90), 60);
        assert_eq!(renew_s(1_000..=1_007), 1_005);
        assert_eq!(renew_s(0..=i64::MAX), i64::MAX - i64::MAX / 3);
    }

    #[test]
    fn an_hour_has_room_for_four_attempts() {
        let now_s = 1_000_000;
        assert_eq!(free_s(&[], now_s), None);
        assert_eq!(free_s(&[now_s, now_s - 5, now_s - 9], now_s), None);
        assert_eq!(free_s(&[now_s - 9, now_s - 5, now_s - 1, now_s], now_s), Some(now_s - 9 + HOUR_S));
        assert_eq!(free_s(&[now_s - HOUR_S, now_s - 5, now_s - 1, now_s], now_s), None);
        assert_eq!(free_s(&[now_s - 30, now_s - 9, now_s - 5, now_s - 1, now_s], now_s), Some(now_s - 9 + HOUR_S));
        assert_eq!(free_s(&[now_s + 1_000_000; 4], now_s), Some(now_s + HOUR_S), "a clock that went back");
    }

    #[test]
    fn failures_alone_never_make_a_fifth_attempt_in_an_hour() {
        let mut attempts = vec![0];
        for failures in 0..20 {
            attempts.push(attempts.last().expect("one") + wait_s(failures));
        }
        for at in &attempts {
            let within = attempts.iter().filter(|other| (*at - HOUR_S..=*at).contains(*other)).count();
            assert!(within <= ATTEMPTS_PER_HOUR, "{within} within the hour before {at}");
        }
        assert_eq!(wait_s(usize::MAX), 12 * HOUR_S);
    }
}
