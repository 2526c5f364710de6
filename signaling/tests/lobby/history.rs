//! What history is told: who was there, from when until when, and why it ended.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sfu::{CloseReason, Kind, Source, TrackId, TrackInfo};
use signaling::attendance::Open;
use signaling::limits::{CRASH_ERROR_MAX, EMPTY_TIMEOUT, HEARTBEAT_EVERY, PING_EVERY};
use signaling::*;

use crate::world::*;

const EMPTY_MS: u64 = EMPTY_TIMEOUT.as_millis() as u64;
const HEARTBEAT_MS: u64 = HEARTBEAT_EVERY.as_millis() as u64;

/// The fact without what is random in it: names stand for ids, times count from the beginning of the test.
fn line(fact: &Fact, start: u64) -> String {
    let t = fact.at() as i64 - start as i64;
    match fact {
        Fact::MeetingStarted { session, grace_ms, .. } => format!("{t} started {session} grace {grace_ms}"),
        Fact::Joined { user, name, role, resumes, .. } => {
            let goes_on = if resumes.is_some() { " again" } else { "" };
            format!("{t} joined {user} {name} {}{goes_on}", role.as_str())
        }
        Fact::Left { reason, uncertainty_ms, .. } => format!("{t} left {} {uncertainty_ms}", reason.as_str()),
        Fact::Changed { name, role, .. } => format!("{t} changed {name} {}", role.as_str()),
        Fact::Media { up, .. } => format!("{t} media {up}"),
        Fact::Track { track, source, on, muted, .. } => format!("{t} {source} {track} on {on} muted {muted}"),
        Fact::Activity { alive, .. } => {
            let alive: Vec<_> = alive.iter().map(|a| (a.at as i64 - start as i64, a.speaking_ms)).collect();
            format!("{t} alive {alive:?}")
        }
        Fact::MeetingEnded { .. } => format!("{t} ended"),
        Fact::Chat { user, .. } => format!("{t} chat {user}"),
        Fact::Removed { user, .. } => format!("{t} removed {user}"),
        Fact::Locked { locked, .. } => format!("{t} locked {locked}"),
        Fact::Promoted { user, role, .. } => format!("{t} promoted {user} {}", role.as_str()),
        Fact::Aborted { session, user, .. } => format!("{t} aborted {session} {user}"),
    }
}

const START: u64 = 1_800_000_000_000;

impl World {
    /// The facts since last asked.
    fn lines(&mut self) -> Vec<String> {
        self.new_facts().iter().map(|fact| line(fact, START)).collect()
    }

    /// A socket vanishes, having been heard of last so long ago.
    fn vanish(&mut self, socket: SocketId, silence_ms: u64) {
        let heard = self.now.mono - Duration::from_millis(silence_ms);
        self.handle(Input::Disconnected { socket, clean: false, heard });
    }

    /// The heartbeat, at which each socket was just heard.
    fn heartbeat(&mut self, sockets: &[SocketId]) {
        let sockets = sockets.iter().map(|socket| (*socket, self.now.mono)).collect();
        self.handle(Input::Heard { sockets });
    }
}

#[test]
fn a_meeting_from_its_first_join_to_its_end() {
    let mut w = world();
    let a = w.join("math", "ann");
    assert_eq!(w.lines(), ["0 started math grace 20000", "0 joined ann ANN participant"]);
    w.wait(1_000);
    let b = w.join_with("math", "bob", json!({ "isInstructor": true })).0;
    w.wait(2_000);
    w.granted(a, "leave-session", json!({}));
    w.wait(500);
    w.bye(b);
    assert_eq!(w.lines(), ["1000 joined bob BOB instructor", "3000 left left 0", "3500 left left 0"]);
    w.wait(EMPTY_MS - 1);
    assert_eq!(w.lines(), [""; 0]);
    w.wait(1);
    assert_eq!(w.lines(), ["3500 ended"], "when the last of them left, not when that was certain");
    assert_eq!(w.lobby.deadline(), None);
}

#[test]
fn who_vanishes_was_there_until_last_heard() {
    let mut w = world();
    let a = w.join("math", "ann");
    w.join("math", "bob");
    w.lines();
    w.wait(30_000);
    w.vanish(a, 12_000);
    assert_eq!(w.lines(), [""; 0], "it may come back");
    w.wait(GRACE_MS);
    assert_eq!(w.lines(), ["18000 left disconnected 0"]);
}

#[test]
fn no_end_is_before_its_beginning() {
    let mut w = world();
    w.wait(5_000);
    let a = w.join("math", "ann");
    w.lines();
    w.vanish(a, 4_000);
    w.wait(GRACE_MS);
    assert_eq!(w.lines(), ["5000 left disconnected 0"]);
}

#[test]
fn who_resumes_in_time_has_two_connections_and_one_seat() {
    let mut w = world();
    let (a, ack) = w.join_with("math", "ann", json!({}));
    let first = w.new_facts();
    w.wait(10_000);
    w.vanish(a, 3_000);
    w.wait(5_000);
    let again = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] })).0;
    let facts = w.new_facts();
    let lines: Vec<_> = facts.iter().map(|fact| line(fact, START)).collect();
    assert_eq!(lines, ["7000 left disconnected 0", "15000 joined ann ANN participant again"]);
    let (Fact::Joined { connection, participant, .. }, Fact::Joined { resumes, participant: same, .. }) =
        (&first[1], &facts[1])
    else {
        panic!("{first:?} {facts:?}");
    };
    assert_eq!(Some(connection), resumes.as_ref());
    assert_eq!(participant, same);
    w.bye(again);
    assert_eq!(w.lines(), ["15000 left left 0"]);
}

#[test]
fn who_comes_after_its_grace_time_has_another_seat_in_the_same_meeting() {
    let mut w = world();
    let (a, ack) = w.join_with("math", "ann", json!({}));
    w.vanish(a, 0);
    w.wait(GRACE_MS + 10_000);
    w.lines();
    let (_, again) = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] }));
    assert_eq!(w.lines(), ["30000 joined ann ANN participant"]);
    assert_eq!(ack["meetingId"], again["meetingId"]);
    assert_ne!(ack["participantId"], again["participantId"]);
}

#[test]
fn the_meeting_waits_for_who_comes_back_and_no_longer() {
    let mut w = world();
    let (a, first) = w.join_with("math", "ann", json!({}));
    w.bye(a);
    assert_eq!(w.lobby.gauges().rooms, 0, "nobody is there");
    w.wait(EMPTY_MS - 1);
    let (b, second) = w.join_with("math", "bob", json!({}));
    assert_eq!(first["meetingId"], second["meetingId"]);
    w.wait(EMPTY_MS);
    w.bye(b);
    w.lines();
    w.wait(EMPTY_MS);
    assert_eq!(w.lines(), [format!("{} ended", 2 * EMPTY_MS - 1)]);
    let (_, third) = w.join_with("math", "ann", json!({}));
    assert_ne!(first["meetingId"], third["meetingId"]);
}

#[test]
fn an_empty_meeting_holds_nothing_of_media() {
    let mut w = world();
    let (a, _, _) = w.join_sfu("math", "ann");
    let sdp = "v=0".to_owned();
    let watch = Ask::Play { identity: None, session: "math".into(), participant: None, sdp: sdp.clone() };
    let watching = w.ask(watch.clone());
    w.bye(a);
    assert!(w.peers.is_empty());
    assert!(w.reply(watching).is_some_and(|reply| reply.is_err()));
    let late = w.ask(watch);
    assert_eq!(w.refusal(late), "session/not_live");
}

#[test]
fn a_newer_connection_of_the_same_user_replaces_the_older() {
    let mut w = world();
    let a = w.join("math", "ann");
    w.wait(8_000);
    w.heartbeat(&[a]);
    w.wait(2_000);
    w.lines();
    w.join("math", "ann");
    assert_eq!(w.lines(), ["8000 left replaced 0", "10000 joined ann ANN participant again"]);
}

#[test]
fn nobody_replaces_who_is_gone_already() {
    let mut w = world();
    let a = w.join("math", "ann");
    w.wait(1_000);
    w.vanish(a, 0);
    w.wait(1_000);
    w.lines();
    w.join("math", "ann");
    assert_eq!(w.lines(), ["1000 left disconnected 0", "2000 joined ann ANN participant again"]);
}

#[test]
fn a_second_device_has_a_connection_of_its_own() {
    let mut w = world();
    w.lobby.set_room_settings(RoomSettings { same_user: SameUser::Allow, ..RoomSettings::default() });
    let a = w.join("math", "ann");
    w.wait(1_000);
    let b = w.join("math", "ann");
    w.wait(1_000);
    w.bye(a);
    w.wait(1_000);
    w.bye(b);
    let lines = w.lines();
    assert_eq!(
        lines[1..],
        ["0 joined ann ANN participant", "1000 joined ann ANN participant", "2000 left left 0", "3000 left left 0"]
    );
}

#[test]
fn to_join_elsewhere_is_to_leave() {
    let mut w = world();
    let a = w.join("math", "ann");
    w.lines();
    w.wait(1_000);
    w.rejoin(a, "art", "ann", json!({}));
    assert_eq!(w.lines(), ["1000 left left 0", "1000 started art grace 20000", "1000 joined ann ANN participant"]);
}

#[test]
fn to_join_again_is_no_news_but_for_what_changed() {
    let mut w = world();
    let a = w.join("math", "ann");
    w.lines();
    w.rejoin(a, "math", "ann", json!({}));
    assert_eq!(w.lines(), [""; 0]);
    w.rejoin(a, "math", "ann", json!({ "userName": "Dr. Ann", "isInstructor": true }));
    assert_eq!(w.lines(), ["0 changed Dr. Ann instructor"]);
}

#[test]
fn steps_of_the_wall_clock_change_no_duration() {
    for step in [-3_600_000i64, 3_600_000] {
        let mut w = world();
        let a = w.join("math", "ann");
        w.wait(10_000);
        w.now.unix_ms = w.now.unix_ms.saturating_add_signed(step);
        w.heartbeat(&[a]);
        w.wait(10_000);
        w.vanish(a, 5_000);
        w.now.unix_ms = w.now.unix_ms.saturating_add_signed(step);
        w.wait(GRACE_MS + EMPTY_MS);
        let lines = w.lines();
        assert_eq!(lines[2..], ["10000 alive [(10000, 0)]", "15000 left disconnected 0", "15000 ended"]);
    }
}

#[test]
fn media_that_goes_on_proves_life_without_a_socket() {
    let mut w = world();
    let (a, ack, peer) = w.join_sfu("math", "ann");
    w.sfu(sfu::Event::Connected { peer });
    w.lines();
    w.wait(10_000);
    w.vanish(a, 9_000);
    w.wait(5_000);
    w.sfu(sampled(peer, 1_500));
    w.wait(5_000);
    w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] }));
    assert_eq!(
        w.lines(),
        ["13500 left disconnected 0", "20000 joined ann ANN participant again", "20000 media true"],
        "what goes on belongs to the new connection"
    );
}

#[test]
fn media_and_tracks_are_told_when_they_change() {
    let mut w = world();
    let (a, _, peer) = w.join_sfu("math", "ann");
    w.lines();
    let track = TrackId(7).to_string();
    w.sfu(sfu::Event::Connected { peer });
    w.sfu(published(peer, 7));
    w.sfu(published(peer, 7));
    w.granted(a, "track-update", json!({ "trackId": track, "muted": true }));
    w.granted(a, "track-update", json!({ "trackId": track, "muted": true }));
    w.sfu(sfu::Event::TrackUnpublished { peer, track: TrackId(7) });
    assert_eq!(
        w.lines(),
        [
            "0 media true".to_owned(),
            format!("0 camera {track} on true muted false"),
            format!("0 camera {track} on true muted true"),
            format!("0 camera {track} on false muted true"),
        ]
    );
    w.sfu(published(peer, 8));
    w.wait(30_000);
    w.sfu(sfu::Event::ConsentLost { peer });
    w.sfu(sampled(peer, 30_000));
    w.wait(5_000);
    w.sfu(sampled(peer, 100));
    w.sfu(sfu::Event::Closed { peer, reason: CloseReason::Dtls });
    let track = TrackId(8).to_string();
    assert_eq!(
        w.lines(),
        [
            format!("0 camera {track} on true muted false"),
            "30000 media false".to_owned(),
            "35000 media true".to_owned(),
            "35000 media false".to_owned(),
            format!("35000 camera {track} on false muted false"),
        ]
    );
    w.bye(a);
    assert_eq!(w.lines(), ["35000 left left 0"]);
}

#[test]
fn heartbeats_tell_new_proofs_of_life_and_who_spoke() {
    let mut w = world();
    let (a, _, peer) = w.join_sfu("math", "ann");
    let b = w.join("math", "bob");
    let room = w.room_of(peer);
    w.lines();
    w.wait(10_000);
    w.handle(Input::Heard { sockets: vec![(a, w.now.mono - Duration::from_millis(700)), (b, w.now.mono)] });
    assert_eq!(w.lines(), ["10000 alive [(9300, 0), (10000, 0)]"]);
    let info = TrackInfo { track: TrackId(1), kind: Kind::Audio, source: Source::Microphone, muted: false };
    w.sfu(sfu::Event::TrackPublished { peer, info });
    let speaks = sfu::Event::Speakers { room, speakers: vec![(peer, 90)], audio: vec![] };
    let silence = sfu::Event::Speakers { room, speakers: vec![], audio: vec![] };
    w.lines();
    w.sfu(speaks.clone());
    w.wait(4_000);
    w.sfu(silence.clone());
    w.wait(5_000);
    w.sfu(speaks.clone());
    w.wait(1_000);
    w.heartbeat(&[]);
    assert_eq!(w.lines(), ["20000 alive [(9300, 5000)]"], "speech counts though its socket said nothing");
    w.wait(2_000);
    w.granted(a, "track-update", json!({ "trackId": TrackId(1).to_string(), "muted": true }));
    w.sfu(speaks);
    w.wait(8_000);
    w.lines();
    w.heartbeat(&[]);
    assert_eq!(w.lines(), ["30000 alive [(22000, 2000)]"], "who is muted does not speak");
    w.heartbeat(&[]);
    assert_eq!(w.lines(), ["30000 alive []"], "nothing is new, but somebody should have been heard");
    w.heartbeat(&[b]);
    w.lines();
    w.heartbeat(&[b]);
    assert_eq!(w.lines(), [""; 0], "nothing is new");
}

/// A server dies at any moment on somebody who does nothing but answer pings, every other answer `late_ms` later.
fn dies_on_a_listener(phase_ms: u64, late_ms: u64) {
    const STEP_MS: u64 = 250;
    let mut w = world();
    w.wait(phase_ms);
    let a = w.join("math", "ann");
    let (mut open, mut heard) = (Open::default(), w.now.mono);
    let ping_ms = PING_EVERY.as_millis() as u64;
    let mut pings = 1;
    for now_ms in (phase_ms + STEP_MS..phase_ms + 60_000).step_by(STEP_MS as usize) {
        w.new_facts().iter().for_each(|fact| open.apply(fact));
        w.wait(STEP_MS);
        let Some(Fact::Left { at, uncertainty_ms, .. }) = open.crashed().pop() else { panic!("somebody is there") };
        let (died, which) = (START + now_ms, format!("phase {phase_ms}, late {late_ms}, died after {now_ms}"));
        assert!(at <= died && died <= at + uncertainty_ms, "{which}: {at} and {uncertainty_ms} ms");
        if late_ms == 0 {
            assert!(died - at <= CRASH_ERROR_MAX.as_millis() as u64, "{which}");
            assert_eq!(u128::from(uncertainty_ms), CRASH_ERROR_MAX.as_millis(), "{which}");
        }
        if now_ms - phase_ms >= pings * ping_ms + (pings % 2) * late_ms {
            (heard, pings) = (w.now.mono, pings + 1);
        }
        if now_ms % HEARTBEAT_MS == 0 {
            w.handle(Input::Heard { sockets: vec![(a, heard)] });
        }
    }
}

#[test]
fn a_crash_states_what_it_may_cost_who_only_answers_pings() {
    for phase_ms in (0..10_000).step_by(250) {
        for late_ms in [0, 500, 4_000] {
            dies_on_a_listener(phase_ms, late_ms);
        }
    }
}

#[test]
fn speech_that_no_heartbeat_told_of_is_told_at_the_end() {
    let mut w = world();
    let (a, _, peer) = w.join_sfu("math", "ann");
    let room = w.room_of(peer);
    let info = TrackInfo { track: TrackId(1), kind: Kind::Audio, source: Source::Microphone, muted: false };
    w.sfu(sfu::Event::TrackPublished { peer, info });
    w.sfu(sfu::Event::Speakers { room, speakers: vec![(peer, 90)], audio: vec![] });
    w.wait(3_000);
    w.lines();
    w.bye(a);
    assert_eq!(w.lines(), ["3000 alive [(3000, 3000)]", "3000 left left 0"]);
}

fn publish(session: &str, user: &str) -> Ask {
    let (session, user) = (session.to_owned(), user.to_owned());
    Ask::Publish { identity: None, session, user, name: None, instructor: false, sdp: "v=0".into() }
}

#[test]
fn a_whip_client_is_there_from_its_answer_until_its_last_check() {
    let mut w = world();
    w.ask(publish("math", "cam"));
    let peer = w.peers.last().copied().expect("a peer");
    assert_eq!(w.lines(), [""; 0]);
    w.wait(100);
    w.sfu(answered(peer, "a"));
    w.sfu(sfu::Event::Connected { peer });
    assert_eq!(w.lines(), ["100 started math grace 20000", "100 joined cam cam participant", "100 media true"]);
    w.wait(60_000);
    w.sfu(sampled(peer, 2_000));
    w.wait(28_000);
    w.sfu(sampled(peer, 30_000));
    w.sfu(sfu::Event::ConsentLost { peer });
    assert_eq!(w.lines(), ["58100 left disconnected 0"]);
}

#[test]
fn a_whip_client_that_is_refused_was_never_there() {
    let mut w = world();
    let http = w.ask(publish("math", "cam"));
    let peer = w.peers.last().copied().expect("a peer");
    w.sfu(sfu::Event::Refused {
        peer,
        description: sfu::Description::Offer,
        refusal: sfu::Refusal::InvalidSdp,
        message: "No.".into(),
    });
    assert!(w.reply(http).is_some_and(|reply| reply.is_err()));
    assert_eq!(w.lines(), [""; 0]);
    assert_eq!(w.lobby.deadline(), None, "there is no meeting that could wait for anybody");
}

#[test]
fn refused_joins_leave_no_trace() {
    let mut w = world();
    w.lobby.set_room_settings(RoomSettings { capacity: 1, ..RoomSettings::default() });
    w.join("math", "ann");
    w.lines();
    let b = w.connect();
    assert_eq!(w.refused(b, "join-session", json!({ "sessionId": "math", "userId": "bob" })), "session/full");
    assert_eq!(w.refused(b, "join-session", json!({ "sessionId": "math" })), "request/invalid");
    w.drop(b);
    assert_eq!(w.lines(), [""; 0], "in open mode nobody knows who it was");
}

#[test]
fn acks_of_joins_wait_for_their_fact() {
    let mut w = world();
    let (a, ack) = w.join_with("math", "ann", json!({}));
    let joined = w.last_fact();
    assert_eq!(w.last_after, Some(joined));
    w.granted(a, "raise-hand", json!({ "raised": true }));
    assert_eq!(w.last_after, None, "all else need not");
    w.drop(a);
    let b = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] })).0;
    assert_eq!(w.last_after, Some(w.last_fact()));
    assert!(w.last_fact() > joined);
    w.rejoin(b, "math", "ann", json!({}));
    assert_eq!(w.last_after, Some(w.last_fact()), "the fact of the connection that goes on");
    w.ask(publish("math", "cam"));
    let peer = w.peers.last().copied().expect("a peer");
    w.sfu(answered(peer, "a"));
    assert_eq!(w.last_after, Some(w.last_fact()));
}

#[test]
fn while_nothing_can_be_written_down_nobody_new_gets_in() {
    let mut w = world();
    let (a, ack) = w.join_with("math", "ann", json!({}));
    w.handle(Input::Recording { possible: false });
    let b = w.connect();
    for session in ["math", "art"] {
        let join = json!({ "sessionId": session, "userId": "bob" });
        assert_eq!(w.refused(b, "join-session", join), "server/overloaded");
    }
    w.drop(a);
    let c = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] })).0;
    w.rejoin(c, "math", "ann", json!({}));
    w.handle(Input::Recording { possible: true });
    w.rejoin(b, "art", "bob", json!({}));
}

#[test]
fn who_is_here_stays_while_the_server_drains_and_nobody_new_comes() {
    let mut w = world();
    let (a, ack) = w.join_with("math", "ann", json!({}));
    let b = w.connect();
    w.handle(Input::Drain { deadline_ms: START + 60_000 });
    for socket in [a, b] {
        assert_eq!(w.one(socket, "server-draining"), json!({ "deadline": START + 60_000 }));
    }
    for session in ["math", "art"] {
        let join = json!({ "sessionId": session, "userId": "bob" });
        assert_eq!(w.refused(b, "join-session", join), "server/draining");
    }
    // Who drops out may come back, by its token or by its name, and hears what it missed.
    w.drop(a);
    let c = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] })).0;
    assert_eq!(w.one(c, "server-draining"), json!({ "deadline": START + 60_000 }));
    w.drop(c);
    let d = w.join_with("math", "ann", json!({})).0;
    // Who left is new.
    w.granted(d, "leave-session", json!({ "sessionId": "math" }));
    assert_eq!(w.refused(d, "join-session", json!({ "sessionId": "math", "userId": "ann" })), "server/draining");
}

#[test]
fn acks_of_moderators_wait_for_what_they_changed() {
    let mut w = world();
    let tea = w.join_with("math", "tea", json!({ "isInstructor": true })).0;
    let people = ["ann", "bob"].map(|user| w.join_with("math", user, json!({})).1["participantId"].clone());
    w.lines();
    for (order, told) in [
        (
            json!({ "action": "promote", "participantId": people[0] }),
            &["0 promoted ann instructor", "0 changed ANN instructor"][..],
        ),
        (json!({ "action": "lock" }), &["0 locked true"]),
        (json!({ "action": "unlock" }), &["0 locked false"]),
        (json!({ "action": "remove", "participantId": people[1] }), &["0 removed bob", "0 left removed 0"]),
        (json!({ "action": "end" }), &["0 left ended 0", "0 left ended 0", "0 ended"]),
    ] {
        w.granted(tea, "moderate", order.clone());
        assert_eq!(w.last_after, Some(w.last_fact()), "{order}");
        assert_eq!(w.lines(), told, "{order}");
    }
}

#[test]
fn a_lock_that_changes_nothing_waits_for_nothing() {
    let mut w = world();
    let tea = w.join_with("math", "tea", json!({ "isInstructor": true })).0;
    w.granted(tea, "moderate", json!({ "action": "unlock" }));
    assert_eq!(w.last_after, None);
}

#[test]
fn a_stop_ends_who_is_there_for_certain_and_leaves_the_meeting_open() {
    let mut w = world();
    let (a, b) = (w.join("math", "ann"), w.join("math", "bob"));
    w.wait(30_000);
    w.vanish(b, 4_000);
    w.wait(1_000);
    w.lines();
    let heard = w.now.mono - Duration::from_secs(3);
    w.handle(Input::Stop { sockets: vec![(a, heard)] });
    let lines = w.lines();
    assert_eq!(lines[..2], ["31000 alive [(28000, 0), (26000, 0)]", "31000 left disconnected 0"]);
    assert_eq!(lines[2..], ["26000 left disconnected 0"], "who was away had gone before");
    let late = w.connect();
    assert_eq!(w.refused(late, "join-session", json!({ "sessionId": "math", "userId": "cay" })), "server/draining");
    w.drop(a);
    w.wait(GRACE_MS);
    assert_eq!(w.lines(), [""; 0], "each connection has one end");
}

/// The lobby is there again after a crash, with what the facts so far leave open.
fn restart(w: &mut World) {
    let mut open = Open::default();
    w.facts.iter().for_each(|fact| open.apply(fact));
    open.crashed().iter().for_each(|fact| open.apply(fact));
    let written = serde_json::to_string(&open).expect("JSON");
    let (now, facts) = (w.now, std::mem::take(&mut w.facts));
    *w = world();
    w.now = now;
    w.handle(Input::Restore { open: serde_json::from_str(&written).expect("what was written") });
    assert_eq!(w.facts, [], "{} facts before", facts.len());
}

#[test]
fn a_restart_forgets_neither_the_lock_nor_who_was_promoted_or_let_in() {
    let mut w = world();
    let tea = w.join_with("math", "tea", json!({ "isInstructor": true })).0;
    let ann = w.join_with("math", "ann", json!({})).1;
    w.join("math", "bob");
    w.granted(tea, "moderate", json!({ "action": "promote", "participantId": ann["participantId"] }));
    w.granted(tea, "moderate", json!({ "action": "lock" }));
    restart(&mut w);
    w.lobby.set_room_settings(RoomSettings { waiting_room: true, ..RoomSettings::default() });
    let stranger = w.connect();
    assert_eq!(w.refused(stranger, "join-session", json!({ "sessionId": "math", "userId": "eve" })), "session/locked");
    let (bob, ack) = w.join_with("math", "bob", json!({}));
    assert_eq!((&ack["locked"], &ack["role"]), (&json!(true), &json!("participant")), "he was there before");
    let (ann, ack) = w.join_with("math", "ann", json!({}));
    assert_eq!(ack["role"], "instructor");
    w.granted(ann, "moderate", json!({ "action": "unlock" }));
    w.bye(bob);
    restart(&mut w);
    let (_, ack) = w.join_with("math", "bob", json!({}));
    assert_eq!(ack["locked"], false);
    let stranger = w.connect();
    w.rejoin(stranger, "math", "eve", json!({}));
}

#[test]
fn late_joiners_are_shown_what_was_said_before_a_restart() {
    let mut w = world();
    let ann = w.join("math", "ann");
    for message in ["one", "two"] {
        w.granted(ann, "chat-message", json!({ "message": message }));
    }
    let said = w.join_with("math", "bob", json!({})).1["chat"].clone();
    let messages: Vec<Fact> = w.facts.iter().filter(|fact| matches!(fact, Fact::Chat { .. })).cloned().collect();
    restart(&mut w);
    let (ann, ack) = w.join_with("math", "ann", json!({}));
    assert_eq!(ack["chat"], json!([]), "the store has not answered yet");
    w.granted(ann, "chat-message", json!({ "message": "three" }));
    w.handle(Input::Said { meeting: ack["meetingId"].as_str().expect("an id").into(), messages });
    w.handle(Input::Said { meeting: "mtg_over".into(), messages: Vec::new() });
    let chat = w.join_with("math", "bob", json!({})).1["chat"].clone();
    assert_eq!(chat.as_array().map(Vec::len), Some(3));
    assert_eq!([&chat[0], &chat[1]], [&said[0], &said[1]], "as it was told");
    assert_eq!(chat[2]["message"], "three");
}

/// A meeting that a former boot left empty, and its last fact.
fn open(session: &str, last_at: u64, empty_since: u64) -> Open {
    let (meeting, session): (Arc<str>, Arc<str>) = ("mtg_before".into(), session.into());
    let (user, token, expires_ms) = ("eve".into(), None, 0);
    let mut open = Open::default();
    open.apply(&Fact::MeetingStarted {
        meeting: meeting.clone(),
        session: session.clone(),
        at: empty_since,
        grace_ms: 0,
    });
    open.apply(&Fact::Removed { meeting, session, user, token, expires_ms, at: last_at });
    open
}

#[test]
fn meetings_go_on_after_a_restart() {
    let mut w = world();
    // The wall clock was set back an hour meanwhile.
    w.handle(Input::Restore { open: open("math", START + 3_600_000, START - 30_000) });
    assert_eq!(w.lobby.gauges().rooms, 0);
    w.wait(1_000);
    let (a, ack) = w.join_with("math", "ann", json!({}));
    assert_eq!(ack["meetingId"], "mtg_before");
    assert_eq!(w.lines(), ["3601000 joined ann ANN participant"], "no time before what was written last");
    w.bye(a);
    w.wait(EMPTY_MS);
    assert_eq!(w.lines(), ["3601000 left left 0", "3601000 ended"]);
}

#[test]
fn a_restart_does_not_make_empty_meetings_wait_anew() {
    let mut w = world();
    w.handle(Input::Restore { open: open("math", START - 30_000, START - 30_000) });
    w.wait(EMPTY_MS - 30_000 - 1);
    assert_eq!(w.lines(), [""; 0]);
    w.wait(1);
    assert_eq!(w.lines(), ["-30000 ended"]);
    let mut late = world();
    late.handle(Input::Restore { open: open("math", START - 3_600_000, START - 3_600_000) });
    late.wait(0);
    assert_eq!(late.lines(), ["-3600000 ended"]);
}

fn identity(session: &str, user: &str) -> Identity {
    Identity {
        user: user.into(),
        name: None,
        session: session.into(),
        role: Role::Participant,
        permissions: Permissions::of(Role::Participant),
        token: None,
        expires_ms: u64::MAX,
        is_expired: false,
    }
}

#[test]
fn who_never_joined_is_told_apart() {
    let mut w = world();
    let address = [10, 0, 0, 1].into();
    for (socket, joins) in [(SocketId(1_001), false), (SocketId(1_002), true)] {
        let identity = Some(Arc::new(identity("math", "ann")));
        w.handle(Input::Connected { socket, address, identity });
        if joins {
            w.rejoin(socket, "math", "ann", json!({}));
            w.granted(socket, "leave-session", json!({}));
        }
        w.lines();
        w.drop(socket);
        assert_eq!(w.lines().len(), usize::from(!joins));
    }
    w.handle(Input::Connected { socket: SocketId(1_003), address, identity: None });
    w.drop(SocketId(1_003));
    assert_eq!(w.lines(), [""; 0]);
}
