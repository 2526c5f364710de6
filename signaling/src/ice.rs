//! Which ICE servers clients are told of, and who may use the TURN server.
//!
//! A seat is a holder from its beginning to its end, and so is a viewer, which has none, and for a while who was given a
//! token ([`crate::tokens`]). The TURN server hears of both ends, so that a credential is worth nothing without its seat, however long it would still be valid.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sfu::Now;
use turn_server::credential::{self, Credential};

use crate::Lobby;
use crate::api::Output;
use crate::limits::TURN_CREDENTIAL_LIFETIME;
use crate::wire::Media;

/// `iceServers` of acks, and of the `Link` headers of WHIP and WHEP.
#[derive(Clone, Debug, Default)]
pub struct IceServers {
    /// The same for everybody, as `RTCIceServer` objects.
    pub fixed: Vec<Value>,
    /// For each client with a credential of its own.
    pub minted: Vec<TurnServer>,
}

/// A TURN server that takes time-limited credentials.
#[derive(Clone)]
pub struct TurnServer {
    /// Its `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// What it shares with us: the key of [`credential::mint`].
    pub secret: Vec<u8>,
    /// Whether it relays from client to client. If not, it reaches nothing but the SFU, and mesh clients are not told of it.
    pub for_mesh: bool,
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer").field("urls", &self.urls).field("for_mesh", &self.for_mesh).finish_non_exhaustive()
    }
}

impl Lobby {
    /// Lets a holder open allocations. To be said before its client is told of any credential.
    pub(crate) fn grant(&mut self, holder: Arc<str>) {
        self.out.push_back(Output::Grant { holder });
    }

    /// Ends what a holder has open, for good: no holder's name comes again.
    pub(crate) fn revoke(&mut self, holder: Arc<str>) {
        self.out.push_back(Output::Revoke { holder });
    }

    /// What a holder is told: each time with a new credential.
    pub(crate) fn ice_servers(&self, holder: &str, media: Option<Media>, now: Now) -> Vec<Value> {
        self.ice_servers_for(holder, media, TURN_CREDENTIAL_LIFETIME, now)
    }

    /// The same, with a credential that opens nothing after that time.
    pub(crate) fn ice_servers_for(
        &self,
        holder: &str,
        media: Option<Media>,
        at_most: Duration,
        now: Now,
    ) -> Vec<Value> {
        let IceServers { fixed, minted } = &self.config.ice;
        let expires = now.unix_ms / 1_000 + at_most.min(TURN_CREDENTIAL_LIFETIME).as_secs();
        let useful = minted.iter().filter(|server| server.for_mesh || media != Some(Media::Mesh));
        let minted = useful.map(|server| {
            let Credential { username, password } = credential::mint(&server.secret, holder, expires);
            json!({ "urls": server.urls, "username": username, "credential": password })
        });
        fixed.iter().cloned().chain(minted).collect()
    }
}
