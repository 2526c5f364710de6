//! Deliveries in virtual time, on both engines: the schedule, order, claims, what is given up and told again.

use super::*;
use crate::clock;
use crate::store::endpoints::FORMER_SECRET_MS;
use crate::store::outbox::{BLOCKS_MS, CLAIM_MS};
use crate::store::{Backlog, ENDPOINTS_MAX, NewEndpoint};
use crate::webhooks::{Outcome, Verdict, judge};

const HOUR: u64 = 60 * MINUTE;

/// One attempt that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    at: u64,
    endpoint: String,
    event: String,
    body: String,
}

impl Attempt {
    fn room_seq(&self) -> u64 {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("bodies are JSON");
        body["roomSeq"].as_u64().expect("each has its place")
    }
}

fn new(id: &str) -> NewEndpoint {
    NewEndpoint {
        id: id.to_owned(),
        url: format!("https://{id}.example/"),
        secret: format!("whsec_{id}"),
        events: None,
    }
}

fn answer(status: u16) -> Outcome {
    Outcome { status: Some(status), error: (status >= 300).then(|| format!("it said {status}")), retry_after_s: None }
}

/// A store with these endpoints, and a meeting of `people` in each room: `session.started`, two of each, `session.ended`.
async fn told(fresh: &Fresh, endpoints: &[&str], rooms: &[&str], people: usize) -> Store {
    let store = fresh.open().await;
    for id in endpoints {
        assert!(store.add_endpoint(&new(id), MONDAY).await.expect("it writes"));
    }
    happen(&store, rooms, people).await;
    store
}

async fn happen(store: &Store, rooms: &[&str], people: usize) {
    for room in rooms {
        let people: Vec<String> = (0..people).map(|n| format!("user{n}")).collect();
        let people: Vec<_> = people.iter().map(|user| (&**user, MONDAY, MONDAY + MINUTE)).collect();
        Node::new(&format!("n_{room}")).apply(store, meeting(&format!("mtg_{room}"), room, &people)).await;
    }
}

/// Tries whatever is due from `from` until `to`, as the deliverer does, and jumps over the times between.
async fn deliver(store: &Store, from: u64, to: u64, mut receiver: impl FnMut(&Attempt) -> Outcome) -> Vec<Attempt> {
    let (mut now, mut made) = (from, vec![]);
    loop {
        for recipient in store.recipients(now).await.expect("it answers") {
            loop {
                let claimed = store.claim("n_1", &recipient.id, 4, now).await.expect("it answers");
                if claimed.is_empty() {
                    break;
                }
                for one in claimed {
                    let attempt = Attempt {
                        at: now,
                        endpoint: one.endpoint.clone(),
                        event: one.event.clone(),
                        body: one.body.clone(),
                    };
                    let outcome = receiver(&attempt);
                    let verdict = judge(&outcome, one.attempt, now, made.len() as u64 * 7_919);
                    store.settle("n_1", &one, &outcome, verdict, now).await.expect("it writes");
                    made.push(attempt);
                }
            }
        }
        let pool = store.read().await.expect("it is there");
        let row = sqlx::query(
            "SELECT MIN(at) FROM (SELECT next_at AS at FROM deliveries WHERE state = 'pending' AND next_at > $1
             UNION ALL SELECT created_at + $2 AS at FROM deliveries WHERE state = 'pending' AND created_at + $2 > $1) AS times",
        )
        .bind(now as i64)
        .bind(BLOCKS_MS as i64)
        .fetch_one(pool)
        .await
        .expect("it answers");
        match row.try_get::<Option<i64>, _>(0).expect("a time").map(|at| at as u64) {
            Some(at) if at <= to => now = at,
            _ => return made,
        }
    }
}

fn of<'a>(made: &'a [Attempt], endpoint: &str) -> Vec<&'a Attempt> {
    made.iter().filter(|attempt| attempt.endpoint == endpoint).collect()
}

#[tokio::test]
async fn one_that_fails_for_a_day_delays_nobody_and_can_be_told_again() {
    for fresh in Fresh::both() {
        let store = told(&fresh, &["bad", "good", "well"], &["algebra", "latin"], 1).await;
        let start = clock::now().unix_ms + 1;
        let made = deliver(&store, start, start + 40 * HOUR, |attempt| {
            answer(if attempt.endpoint == "bad" { 500 } else { 200 })
        })
        .await;
        for endpoint in ["good", "well"] {
            let theirs = of(&made, endpoint);
            assert!(theirs.len() == 8 && theirs.iter().all(|attempt| attempt.at == start), "at once and once each");
            for room in ["mtg_algebra", "mtg_latin"] {
                let order: Vec<_> = theirs.iter().filter(|a| a.body.contains(room)).map(|a| a.room_seq()).collect();
                assert_eq!(order, [1, 2, 3, 4], "in the order of the room");
            }
        }
        let bad = of(&made, "bad");
        assert_eq!(bad.len(), 80, "ten attempts each");
        let first: Vec<_> = bad.iter().filter(|a| a.event == bad[0].event).collect();
        assert!(first.iter().all(|a| a.body == first[0].body), "the same at every attempt");
        let span = first[9].at - first[0].at;
        assert!((21 * HOUR..27 * HOUR).contains(&span), "for a day: {span}");
        let second = bad.iter().find(|a| a.room_seq() == 2).expect("it was tried");
        assert!(second.at >= start + BLOCKS_MS - MINUTE, "the first holds it up for half an hour");
        let backlog = store.backlog().await.expect("it answers");
        assert_eq!(backlog, Backlog { pending: 0, dead: 8, oldest_ms: None });
        let dead = store.deliveries("bad", Some("dead"), 0, 100).await.expect("it answers");
        assert!(
            dead.len() == 8
                && dead.iter().all(|d| d.attempts == 10 && d.last_status == Some(500) && d.done_at.is_some())
        );
        assert_eq!(store.deliveries("good", Some("dead"), 0, 100).await.expect("it answers"), []);

        let later = start + 50 * HOUR;
        assert_eq!(store.replay("bad", Some("algebra"), 2, later).await.expect("it writes"), (3, false));
        let again = deliver(&store, later, later + HOUR, |_| answer(204)).await;
        assert_eq!(again.iter().map(Attempt::room_seq).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(
            again.iter().all(|a| bad.iter().any(|b| (&b.event, &b.body) == (&a.event, &a.body))),
            "the same bodies and ids"
        );
        assert_eq!(store.backlog().await.expect("it answers").dead, 5);
    }
}

#[tokio::test]
async fn one_that_comes_back_soon_hears_everything_in_order() {
    for fresh in Fresh::both() {
        let store = told(&fresh, &["hook"], &["algebra"], 3).await;
        let start = clock::now().unix_ms + 1;
        let back = start + 3 * MINUTE;
        let made =
            deliver(&store, start, start + 40 * HOUR, |attempt| answer(if attempt.at < back { 503 } else { 200 }))
                .await;
        let failed: Vec<_> = made.iter().filter(|a| a.at < back).map(Attempt::room_seq).collect();
        assert_eq!(failed, [1, 1], "at once and after 5 s");
        let arrived: Vec<_> = made.iter().filter(|a| a.at >= back).map(Attempt::room_seq).collect();
        assert_eq!(arrived, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(store.backlog().await.expect("it answers"), Backlog::default());
    }
}

#[tokio::test]
async fn one_that_is_gone_is_switched_off_and_on_again() {
    for fresh in Fresh::both() {
        let store = told(&fresh, &["gone", "good"], &["algebra"], 1).await;
        let start = clock::now().unix_ms + 1;
        let made =
            deliver(&store, start, start + HOUR, |attempt| answer(if attempt.endpoint == "gone" { 410 } else { 200 }))
                .await;
        assert_eq!((of(&made, "gone").len(), of(&made, "good").len()), (1, 4));
        let endpoint = store.endpoint("gone").await.expect("it answers").expect("it is there");
        assert_eq!((endpoint.enabled, endpoint.disabled_reason.as_deref()), (false, Some("it said 410")));
        assert_eq!(
            store.deliveries("gone", Some("dead"), 0, 100).await.expect("it answers").len(),
            4,
            "they can be seen"
        );
        happen(&store, &["latin"], 1).await;
        assert_eq!(
            store.deliveries("gone", None, 0, 100).await.expect("it answers").len(),
            4,
            "it is told of nothing more"
        );
        assert!(store.switch_on("gone", start).await.expect("it writes"));
        assert!(!store.switch_on("nobody", start).await.expect("it writes"));
        assert_eq!(store.replay("gone", None, 1, start).await.expect("it writes"), (8, false), "what it missed too");
        let made = deliver(&store, start, start + HOUR, |_| answer(200)).await;
        assert_eq!(of(&made, "gone").len(), 8);
    }
}

#[tokio::test]
async fn a_longer_wait_that_is_asked_for_is_kept() {
    let fresh = Fresh::new(Engine::Sqlite);
    let store = told(&fresh, &["busy"], &["algebra"], 0).await;
    let start = clock::now().unix_ms + 1;
    let asked = Outcome { retry_after_s: Some(1_200), ..answer(429) };
    let made = deliver(&store, start, start + 40 * HOUR, |attempt| {
        if attempt.at < start + MINUTE { asked.clone() } else { answer(200) }
    })
    .await;
    assert!(made.len() >= 3 && made[1].at == start + 1_200_000, "{made:?}");
    assert!(made.iter().skip(1).map(Attempt::room_seq).is_sorted());
}

#[tokio::test]
async fn a_claim_is_of_one_until_it_runs_out() {
    for fresh in Fresh::both() {
        let store = told(&fresh, &["hook"], &["algebra"], 1).await;
        let now = clock::now().unix_ms + 1;
        let claimed = store.claim("n_1", "hook", 4, now).await.expect("it answers");
        assert_eq!(claimed.len(), 1, "only the head");
        for node in ["n_1", "n_2"] {
            assert_eq!(store.claim(node, "hook", 4, now + CLAIM_MS - 1).await.expect("it answers"), []);
        }
        let taken = store.claim("n_2", "hook", 4, now + CLAIM_MS).await.expect("it answers");
        assert_eq!((taken.len(), &taken[0].event, taken[0].attempt), (1, &claimed[0].event, 2));
        // Whoever came too late changes nothing.
        store.settle("n_1", &claimed[0], &answer(500), Verdict::Dead, now).await.expect("it answers");
        assert_eq!(store.deliveries("hook", Some("dead"), 0, 10).await.expect("it answers"), []);
        // A boot gives up what the former one had.
        store.release_claims("n_2").await.expect("it writes");
        let again = store.claim("n_2", "hook", 4, now + CLAIM_MS).await.expect("it answers");
        store.settle("n_2", &again[0], &answer(200), Verdict::Delivered, now).await.expect("it answers");
        assert_eq!(store.deliveries("hook", Some("delivered"), 0, 10).await.expect("it answers")[0].attempts, 3);
    }
}

#[tokio::test]
async fn many_who_claim_at_once_never_get_the_same() {
    for fresh in Fresh::both() {
        let rooms: Vec<String> = (0..24).map(|n| format!("room{n}")).collect();
        let store = told(&fresh, &["hook"], &rooms.iter().map(|room| &**room).collect::<Vec<_>>(), 0).await;
        let other = fresh.open().await;
        let now = clock::now().unix_ms + 1;
        let claims = [(&store, "n_1"), (&other, "n_2"), (&store, "n_1"), (&other, "n_2")];
        let mut events = vec![];
        // Who passes over what another locks may come away with less than there is, so all ask until nothing is left.
        loop {
            let [a, b, c, d] = claims.map(|(store, node)| store.claim(node, "hook", 3, now));
            let (a, b, c, d) = tokio::join!(a, b, c, d);
            let found: Vec<_> =
                [a, b, c, d].into_iter().flat_map(|some| some.expect("it answers")).map(|one| one.event).collect();
            if found.is_empty() {
                break;
            }
            events.extend(found);
        }
        events.sort();
        let count = events.len();
        events.dedup();
        assert_eq!((events.len(), count), (24, 24), "each room's head once");
    }
}

#[tokio::test]
async fn endpoints_come_change_their_secret_and_go() {
    for fresh in Fresh::both() {
        let store = told(&fresh, &["hook"], &["algebra"], 0).await;
        let now = clock::now().unix_ms + 1;
        assert!(!store.add_endpoint(&new("hook"), now).await.expect("it answers"), "the id is taken");
        let secrets = |at: u64| {
            let store = store.clone();
            async move { store.recipients(at).await.expect("it answers")[0].secrets.clone() }
        };
        assert_eq!(secrets(now).await, ["whsec_hook"]);
        assert!(store.rotate_secret("hook", "whsec_new", now).await.expect("it writes"));
        assert_eq!(secrets(now + FORMER_SECRET_MS - 1).await, ["whsec_new", "whsec_hook"]);
        assert_eq!(secrets(now + FORMER_SECRET_MS).await, ["whsec_new"]);
        let shown = store.endpoint("hook").await.expect("it answers").expect("it is there");
        assert_eq!(shown.former_secret_until, Some(now + FORMER_SECRET_MS));
        assert!(!serde_json::to_string(&shown).expect("JSON").contains("whsec"), "secrets are not shown");

        let some = NewEndpoint { events: Some(vec!["session.ended".into(), "session.started".into()]), ..new("some") };
        assert!(store.add_endpoint(&some, now).await.expect("it writes"));
        assert_eq!(store.replay("some", None, 1, now).await.expect("it writes").0, 2, "only what it wants");
        assert!(store.switch_off("some", "we said so").await.expect("it writes"));
        assert!(store.claim("n_1", "some", 4, now).await.is_ok_and(|claimed| claimed.len() == 1));
        assert!(
            !store.recipients(now).await.expect("it answers").iter().any(|r| r.id == "some"),
            "not while it is off"
        );
        assert!(store.remove_endpoint("hook").await.expect("it writes"));
        assert!(!store.remove_endpoint("hook").await.expect("it writes"));
        assert_eq!(store.deliveries("hook", None, 0, 10).await.expect("it answers"), []);

        for n in 0..ENDPOINTS_MAX - 1 {
            assert!(store.add_endpoint(&new(&format!("e{n}")), now).await.expect("it writes"));
        }
        assert!(!store.add_endpoint(&new("one-more"), now).await.expect("it answers"), "that is enough");
    }
}

#[tokio::test]
async fn the_endpoint_of_the_settings_follows_them() {
    for fresh in Fresh::both() {
        let store = told(&fresh, &[], &["algebra"], 0).await;
        let now = clock::now().unix_ms + 1;
        // Outbox rows carry the time of their facts: the server started before them, and the store was away.
        store.configure_endpoint("https://a.example", "whsec_a", MONDAY, now).await.expect("it writes");
        assert_eq!(store.deliveries("configured", None, 0, 10).await.expect("it answers").len(), 2);
        store.configure_endpoint("https://a.example", "whsec_a", now, now).await.expect("it writes");
        let same = store.endpoint("configured").await.expect("it answers").expect("it is there");
        assert_eq!((same.former_secret_until, same.enabled), (None, true));
        store.switch_off("configured", "410").await.expect("it writes");
        store.configure_endpoint("https://b.example", "whsec_b", now, now).await.expect("it writes");
        let other = store.endpoint("configured").await.expect("it answers").expect("it is there");
        assert_eq!((&*other.url, other.enabled, other.disabled_reason), ("https://b.example", true, None));
        assert_eq!(store.recipients(now).await.expect("it answers")[0].secrets, ["whsec_b", "whsec_a"]);
    }
}
