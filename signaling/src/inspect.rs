//! What operators see of a room's media: asked of its worker, which answers from what it knows.

use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{Flow, LayerSnapshot, PeerSnapshot, Sample, Snapshot, SubscriptionSnapshot, TrackSnapshot};

use crate::Lobby;
use crate::api::{Actor, Granted, HttpId};
use crate::code::{ErrorCode, Refused};
use crate::flow::{cause_word, pause_word};
use crate::moderation::not_live;

impl Lobby {
    /// Asks the workers of its room, which is answered with [`Lobby::tell_snapshot`]; says at once why not.
    pub(crate) fn inspect(&mut self, http: HttpId, actor: &Actor, session: &str, only: Option<Arc<str>>) {
        let asked = match actor {
            Actor::Operator => Ok(()),
            Actor::Member(_) => Err(ErrorCode::Forbidden.because("Only operators see how media flows.")),
        };
        let found = || self.sessions.get(session.trim()).copied();
        let refused: Refused = match asked.and_then(|()| found().ok_or_else(not_live)) {
            Ok(room) => return self.ask_snapshot(room, only, http.0),
            Err(why) => why,
        };
        self.reply_http(http, Err(refused));
    }

    pub(crate) fn tell_snapshot(&mut self, ticket: u64, snapshot: &Snapshot) {
        let participants: Vec<Value> = snapshot.peers.iter().map(of_peer).collect();
        let body = json!({ "participants": participants, "truncated": snapshot.truncated });
        self.reply_http(HttpId(ticket), Ok(Granted::Answer(body)));
    }
}

fn ms(us: u32) -> f64 {
    f64::from(us) / 1_000.0
}

fn of_peer(peer: &PeerSnapshot) -> Value {
    let PeerSnapshot { participant, connected, sample, score, cause, tracks, subscriptions } = peer;
    let Sample { path, silence, rtt_us, estimate_bps, up, down, paused: _ } = sample;
    json!({
        "participantId": &**participant,
        "connected": connected,
        "path": connected.then_some(match path {
            sfu::PathKind::Udp => "udp",
            sfu::PathKind::Tcp => "tcp",
            sfu::PathKind::Relay => "relay",
        }),
        "silenceMs": silence.as_millis() as u64,
        "rttMs": rtt_us.map(ms),
        "estimateBps": estimate_bps,
        "score": score,
        "cause": cause.map(cause_word),
        "up": of_flow(up),
        "down": of_flow(down),
        "tracks": tracks.iter().map(of_track).collect::<Vec<_>>(),
        "subscriptions": subscriptions.iter().map(of_subscription).collect::<Vec<_>>(),
    })
}

fn of_flow(flow: &Flow) -> Value {
    json!({
        "bps": flow.bps,
        "pps": flow.pps,
        "loss": f64::from(flow.loss_ppm) / 1e6,
        "jitterMs": ms(flow.jitter_us),
        "freezes": flow.freezes,
    })
}

fn of_track(track: &TrackSnapshot) -> Value {
    json!({
        "trackId": track.track.to_string(),
        "source": track.source.as_str(),
        "kind": track.source.kind().as_str(),
        "codec": track.codec.map(|codec| codec.as_str()),
        "muted": track.muted,
        "held": track.held,
        "subscribers": track.subscribers,
        "layers": track.layers.iter().map(of_layer).collect::<Vec<_>>(),
    })
}

fn of_layer(layer: &LayerSnapshot) -> Value {
    json!({
        "rid": layer.rid.as_deref(),
        "active": layer.active,
        "watched": layer.watched,
        "width": layer.width,
        "height": layer.height,
        "bps": layer.bps,
        "packets": layer.packets,
        "lost": layer.lost,
        "jitterMs": ms(layer.jitter_us),
    })
}

fn of_subscription(subscription: &SubscriptionSnapshot) -> Value {
    json!({
        "trackId": subscription.track.to_string(),
        "participantId": &*subscription.participant,
        "source": subscription.source.as_str(),
        "rid": subscription.rid.as_deref(),
        "spatial": subscription.level.map(|(spatial, _)| spatial),
        "temporal": subscription.level.map(|(_, temporal)| temporal),
        "paused": subscription.paused.map(pause_word),
        "packets": subscription.packets,
        "bytes": subscription.bytes,
        "lost": subscription.lost,
    })
}
