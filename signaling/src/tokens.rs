//! What becomes of join tokens: they are renewed while somebody is there, refused once somebody was removed, and may have
//! TURN credentials of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfu::Now;

use crate::access::Identity;
use crate::api::{Output, SocketId};
use crate::code::{ErrorCode, Refused};
use crate::limits::{
    RENEW_BEFORE, RENEW_EVERY, REVOKED_MAX, TOKEN_HOLDERS_MAX, TOKEN_HOLDERS_PER_USER_MAX, TOKEN_SKEW,
};
use crate::seat::Place;
use crate::{Lobby, Timer};

/// Numbers those who hold a TURN credential by their token, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HolderId(u64);

/// Somebody who was given TURN credentials along with a join token.
#[derive(Debug)]
pub(crate) struct TokenHolder {
    /// `t_…`.
    holder: Arc<str>,
    session: Arc<str>,
    user: Arc<str>,
    until: Instant,
}

impl Lobby {
    /// Refuses a token that was withdrawn.
    pub(crate) fn check_token(&self, identity: Option<&Identity>) -> Result<(), Refused> {
        let token = identity.and_then(|identity| identity.token.as_ref());
        if token.is_some_and(|token| self.revoked.contains_key(token)) {
            return Err(ErrorCode::AuthRevoked.because("Your token was withdrawn: a moderator removed you."));
        }
        Ok(())
    }

    /// Refuses a token from now on, in all sessions, until its time is over.
    pub(crate) fn revoke_token(&mut self, token: Arc<str>, expires_ms: u64) {
        let now_ms = self.now.map_or(0, |now| now.unix_ms);
        let until_ms = expires_ms.saturating_add(TOKEN_SKEW.as_millis() as u64);
        self.revoked.retain(|_, until| *until > now_ms);
        if self.revoked.len() >= REVOKED_MAX
            && let Some(first) = self.revoked.iter().min_by_key(|(_, until)| **until).map(|(token, _)| token.clone())
        {
            self.revoked.remove(&first);
        }
        self.revoked.insert(token, until_ms);
    }

    /// Sets the time at which a seat's token is renewed: at once for a client whose own `is_over`.
    pub(crate) fn arm_renewal(&mut self, place: Place, is_over: bool, now: Now) {
        let Some(seat) = self.seat_mut(place) else { return };
        let due = seat.identity.as_ref().map(|identity| {
            let left = Duration::from_millis(identity.expires_ms.saturating_sub(now.unix_ms));
            // Half of a short life, and never at once again: tokens may live less than a minute.
            let wait = left.saturating_sub(RENEW_BEFORE).max(left / 2).max(RENEW_EVERY);
            if is_over { now.mono } else { now.mono + wait }
        });
        let old = std::mem::replace(&mut seat.renew_at, due);
        self.rearm(Timer::Renew(place), old, due);
    }

    /// A seat's token ends soon. Whoever is away gets a new one on coming back.
    pub(crate) fn renew(&mut self, place: Place) {
        let Some(seat) = self.seat_mut(place) else { return };
        seat.renew_at = None;
        if let Some((socket, identity)) = seat.socket.zip(seat.identity.clone()) {
            self.out.push_back(Output::Renew { socket, identity });
        }
    }

    /// A socket was given a new token in place of that which it came with.
    pub(crate) fn renewed(&mut self, socket: SocketId, token: Option<Arc<str>>, expires_ms: u64, now: Now) {
        let Some(place) = self.sockets.get(&socket).filter(|s| !s.closing).map(|s| s.place) else { return };
        let fresh = |identity: &Arc<Identity>| {
            Arc::new(Identity { token: token.clone(), expires_ms, is_expired: false, ..(**identity).clone() })
        };
        let Some(place) = place else { return };
        let Some(seat) = self.seat_mut(place) else { return };
        seat.identity = seat.identity.as_ref().map(fresh);
        // What was minted says what the seat's token said, not that with which the socket came: an older one may say more.
        let minted = seat.identity.clone();
        if let Some(s) = self.sockets.get_mut(&socket) {
            s.identity = minted;
        }
        self.arm_renewal(place, false, now);
    }

    /// TURN credentials for whoever was just given a join token.
    pub(crate) fn token_ice_servers(&mut self, identity: &Identity, now: Now) -> Result<Value, Refused> {
        self.check_token(Some(identity))?;
        if let Some(room) = self.sessions.get(&identity.session).and_then(|room| self.rooms.get(room)) {
            room.check_user(&identity.user)?;
        }
        if identity.is_over(now.unix_ms) {
            return Err(ErrorCode::AuthExpired.because("The token has expired: ask for a new one."));
        }
        let of_user = |h: &TokenHolder| h.user == identity.user && h.session == identity.session;
        let own: Vec<HolderId> = self.token_holders.iter().filter(|(_, h)| of_user(h)).map(|(id, _)| *id).collect();
        if own.len() >= TOKEN_HOLDERS_PER_USER_MAX {
            self.end_token_holder(own[0]);
        } else if self.token_holders.len() >= TOKEN_HOLDERS_MAX
            && let Some(oldest) = self.token_holders.keys().next().copied()
        {
            self.end_token_holder(oldest);
        }
        let holder: Arc<str> = self.random_id("t_", 16).into();
        let left = Duration::from_millis(identity.expires_ms.saturating_sub(now.unix_ms));
        let until = now.mono + left;
        let id = HolderId(self.mint());
        let (session, user) = (identity.session.clone(), identity.user.clone());
        self.token_holders.insert(id, TokenHolder { holder: holder.clone(), session, user, until });
        self.rearm(Timer::Holder(id), None, Some(until));
        self.grant(holder.clone());
        Ok(json!({ "iceServers": self.ice_servers_for(&holder, None, left, now) }))
    }

    /// Ends what somebody holds by a token.
    pub(crate) fn end_token_holder(&mut self, id: HolderId) {
        if let Some(ended) = self.token_holders.remove(&id) {
            self.rearm(Timer::Holder(id), Some(ended.until), None);
            self.revoke(ended.holder);
        }
    }

    /// Ends all that a user holds by tokens for a session.
    pub(crate) fn end_token_holders_of(&mut self, session: &str, user: &str) {
        let theirs = self.token_holders.iter().filter(|(_, h)| *h.user == *user && *h.session == *session);
        let ids: Vec<HolderId> = theirs.map(|(id, _)| *id).collect();
        for id in ids {
            self.end_token_holder(id);
        }
    }
}
