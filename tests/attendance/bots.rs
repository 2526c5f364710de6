//! People who come, go, drop out and come back, and write down what they were told: the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bench::socketio::{Client, Frame};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PATIENCE;

/// Between two signs of life of somebody who is there, ms: as often as hands may be raised.
const SIGN_EVERY_MS: u64 = 220;
/// How long somebody stays, ms.
const STAYS_MS: std::ops::Range<u64> = 30..900;
/// One in so many people is there until the server is not, or the lesson is ended for all.
const PATIENT_EVERY: usize = 6;
/// One in so many people teaches, and now and then ends the lesson for all.
const TEACHER_EVERY: usize = 8;
/// How often it does rather than leave.
const ENDS_SHARE: f64 = 0.35;

/// The wall clock, Unix ms.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64
}

/// How a stay ended, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// It said that it leaves, between these two times.
    Left(u64, u64),
    /// Its socket was closed without a word.
    Dropped(u64),
    /// The connection was cut, by then: the server was killed, or the meeting ended for all.
    Cut(u64),
}

/// One join that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) boot: u64,
    pub(crate) user: String,
    pub(crate) meeting: String,
    pub(crate) participant: String,
    pub(crate) resumed: bool,
    /// When it asked, and when it was told.
    pub(crate) asked: u64,
    pub(crate) acked: u64,
    /// When it sent last what the server answered.
    pub(crate) sign: u64,
    pub(crate) end: End,
}

/// What clients wrote down. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Truth(Arc<Mutex<Written>>);

#[derive(Default)]
pub(crate) struct Written {
    pub(crate) stays: Vec<Stay>,
    /// Joins without an answer: they may have come to pass.
    pub(crate) unanswered: usize,
    /// Between which two times each boot was killed.
    pub(crate) deaths: BTreeMap<u64, (u64, u64)>,
}

impl Truth {
    pub(crate) fn read(&self) -> MutexGuard<'_, Written> {
        self.0.lock().expect("nobody panics with it")
    }

    pub(crate) fn joins(&self) -> usize {
        self.read().stays.len()
    }

    pub(crate) fn died(&self, boot: u64, from: u64, to: u64) {
        self.read().deaths.insert(boot, (from, to));
    }
}

/// All people.
pub(crate) struct Bots {
    tasks: Vec<JoinHandle<()>>,
    leaves: watch::Sender<bool>,
}

impl Bots {
    /// They come as soon as there is a server: `boots` says which, and where.
    pub(crate) fn start(
        people: usize,
        rooms: usize,
        seed: u64,
        boots: &watch::Sender<Option<(u64, String)>>,
        truth: &Truth,
    ) -> Self {
        let (leaves, _) = watch::channel(false);
        let tasks = (0..people).map(|number| {
            let person = Person {
                user: format!("user-{number}"),
                rooms,
                is_patient: number % PATIENT_EVERY == 1,
                teaches: number % TEACHER_EVERY == 0,
                random: StdRng::seed_from_u64(seed ^ (number as u64 + 1) << 32),
                boots: boots.subscribe(),
                leaves: leaves.subscribe(),
                truth: truth.clone(),
            };
            tokio::spawn(person.live())
        });
        Bots { tasks: tasks.collect(), leaves }
    }

    /// All leave, and nobody comes any more.
    pub(crate) async fn leave(self) {
        self.leaves.send_replace(true);
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("in time").expect("nobody panics");
        }
    }
}

struct Person {
    user: String,
    rooms: usize,
    is_patient: bool,
    teaches: bool,
    random: StdRng,
    boots: watch::Receiver<Option<(u64, String)>>,
    leaves: watch::Receiver<bool>,
    truth: Truth,
}

impl Person {
    async fn live(mut self) {
        // The room and the token of a seat that it may come back to.
        let mut seat: Option<(String, String)> = None;
        while !*self.leaves.borrow() {
            let here = self.boots.borrow().clone();
            let Some((boot, url)) = here else {
                let _ = tokio::time::timeout(Duration::from_millis(50), self.boots.changed()).await;
                continue;
            };
            let Ok(mut client) = Client::connect(&url).await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (session, token) = match seat.take() {
                Some((session, token)) => (session, Some(token)),
                None => (format!("room-{}", self.random.random_range(0..self.rooms)), None),
            };
            let who = (self.user.as_str(), self.teaches);
            let joined = join(&mut client, boot, who, &session, token, &self.truth).await;
            let Some((mut stay, token)) = joined else { continue };
            let comes_back = self.stay(&mut client, &mut stay).await;
            self.truth.read().stays.push(stay);
            drop(client);
            if comes_back {
                seat = Some((session, token));
                // Within the grace time, or after it.
                let away = self.random.random_range(0..2 * super::GRACE_MS);
                tokio::time::sleep(Duration::from_millis(away)).await;
            }
        }
    }

    /// Stays for a while, then leaves or drops out. `true` if it will come back to its seat.
    async fn stay(&mut self, client: &mut Client, stay: &mut Stay) -> bool {
        let for_ms = if self.is_patient { u64::MAX / 2 } else { self.random.random_range(STAYS_MS) };
        let until = unix_ms() + for_ms;
        while unix_ms() < until && !*self.leaves.borrow() {
            let sent = unix_ms();
            let answer = ask(client, "raise-hand", json!({ "raised": sent.is_multiple_of(2) })).await;
            // Whose lesson was ended for all is told that it has not joined.
            if answer.is_none_or(|answer| answer["ok"] != true) {
                stay.end = End::Cut(unix_ms());
                return self.random.random_bool(0.5);
            }
            stay.sign = sent;
            tokio::time::sleep(Duration::from_millis(SIGN_EVERY_MS)).await;
        }
        if !*self.leaves.borrow() && self.random.random_bool(0.4) {
            stay.end = End::Dropped(unix_ms());
            return self.random.random_bool(0.7);
        }
        if self.teaches && self.random.random_bool(ENDS_SHARE) {
            // Its own connection ends with the meeting.
            let _ = ask(client, "moderate", json!({ "action": "end" })).await;
            stay.end = End::Cut(unix_ms());
            return false;
        }
        let sent = unix_ms();
        let answer = ask(client, "leave-session", json!({})).await;
        let left = answer.is_some_and(|answer| answer["ok"] == true);
        stay.end = if left { End::Left(sent, unix_ms()) } else { End::Cut(unix_ms()) };
        false
    }
}

/// Joins; the stay so far, and the token of the seat. `None` if there was no answer.
pub(crate) async fn join(
    client: &mut Client,
    boot: u64,
    (user, teaches): (&str, bool),
    session: &str,
    token: Option<String>,
    truth: &Truth,
) -> Option<(Stay, String)> {
    let mut payload =
        json!({ "sessionId": session, "userId": user, "userName": user, "isInstructor": teaches, "media": "sfu" });
    if let Some(token) = token {
        payload["resumeToken"] = token.into();
    }
    let asked = unix_ms();
    let Some(ack) = ask(client, "join-session", payload).await else {
        truth.read().unanswered += 1;
        return None;
    };
    assert_eq!(ack["ok"], true, "{ack}");
    let word = |key: &str| ack[key].as_str().unwrap_or_else(|| panic!("no {key} in {ack}")).to_owned();
    let stay = Stay {
        boot,
        user: user.to_owned(),
        meeting: word("meetingId"),
        participant: word("participantId"),
        resumed: ack["resumed"] == true,
        asked,
        acked: unix_ms(),
        sign: asked,
        end: End::Cut(0),
    };
    Some((stay, word("resumeToken")))
}

/// Emits, and waits for the answer; `None` if the server is gone.
pub(crate) async fn ask(client: &mut Client, event: &str, payload: Value) -> Option<Value> {
    let asking = async {
        let id = client.emit(event, payload).await.ok()?;
        loop {
            match client.next().await.ok()? {
                Frame::Ack { id: of, payload } if of == id => return Some(payload),
                Frame::Close => return None,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer or an end in time")
}

/// The first who joins a boot, and leaves.
pub(crate) async fn probe(url: &str, boot: u64, session: &str, truth: &Truth) {
    let mut client = Client::connect(url).await.expect("it listens");
    let (mut stay, _) = join(&mut client, boot, ("probe", false), session, None, truth).await.expect("it answers");
    let sent = unix_ms();
    ask(&mut client, "leave-session", json!({})).await.expect("it answers");
    stay.end = End::Left(sent, unix_ms());
    truth.read().stays.push(stay);
}
