//! What the application asks over HTTP: live rooms, moderation, rules, and TURN credentials beside tokens.

use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{Now, RoomId};

use crate::Lobby;
use crate::access::Identity;
use crate::api::{Actor, Command, Granted, HttpId, Output};
use crate::code::{ErrorCode, Refused};
use crate::fact::FactId;
use crate::limits::SETTINGS_MAX;
use crate::moderation::{Order, not_a_moderator, not_live};
use crate::room::{Room, RoomSettings};
use crate::roster::Roster;
use crate::seat::Place;

impl Lobby {
    pub(crate) fn command(&mut self, http: HttpId, actor: &Actor, command: Command, now: Now) {
        if let Command::Media { session, participant } = command {
            return self.inspect(http, actor, &session, participant);
        }
        let answer = self.obey(actor, command, now);
        let (reply, after) = match answer {
            Ok((body, after)) => (Ok(Granted::Answer(body)), after),
            Err(why) => (Err(why), None),
        };
        self.out.push_back(Output::Reply { http, reply, after });
    }

    fn obey(&mut self, actor: &Actor, command: Command, now: Now) -> Result<(Value, Option<FactId>), Refused> {
        match command {
            Command::Sessions => {
                if let Actor::Member(_) = actor {
                    return Err(ErrorCode::Forbidden.because("Only operators see all sessions: ask for yours."));
                }
                let sessions: Vec<Value> = self.rooms.values().map(|room| self.session_json(room)).collect();
                Ok((json!({ "sessions": sessions }), None))
            }
            Command::Session { session } => {
                let session = session.trim();
                self.check_actor(actor, session, now)?;
                let room = self.sessions.get(session).and_then(|room| self.rooms.get(room)).ok_or_else(not_live)?;
                Ok((self.session_json(room), None))
            }
            Command::Moderate { session, action, participant, source, role } => {
                let session = session.trim();
                let by = self.check_actor(actor, session, now)?;
                let target = participant.map(|id| Arc::from(id.trim()));
                let after = self.moderate(session, &Order { action, target, source, role, by }, now)?;
                Ok((json!({ "ok": true }), after))
            }
            Command::Media { .. } => Err(ErrorCode::Internal.because("A worker answers this.")),
            Command::IceServers { identity } => {
                if let Actor::Member(member) = actor
                    && (member.user != identity.user || member.session != identity.session)
                {
                    return Err(ErrorCode::Forbidden.because("That token is another's."));
                }
                Ok((self.token_ice_servers(&identity, now)?, None))
            }
        }
    }

    /// Whether somebody may moderate a session over HTTP; its user id if it is no operator.
    fn check_actor(&self, actor: &Actor, session: &str, now: Now) -> Result<Option<Arc<str>>, Refused> {
        let Actor::Member(identity) = actor else { return Ok(None) };
        self.check_member(identity, session, now)?;
        let room = self.sessions.get(session).and_then(|room| self.rooms.get(room));
        if !Lobby::may_moderate(room, &identity.user, identity.standing()) {
            return Err(not_a_moderator());
        }
        Ok(Some(identity.user.clone()))
    }

    /// Whether a token is good for a session, for those who have no socket.
    pub(crate) fn check_member(&self, identity: &Identity, session: &str, now: Now) -> Result<(), Refused> {
        if *identity.session != *session {
            return Err(ErrorCode::Forbidden.because("Your token is for another session: ask for one for this."));
        }
        self.check_token(Some(identity))?;
        if let Some(room) = self.sessions.get(session).and_then(|room| self.rooms.get(room)) {
            room.check_user(&identity.user)?;
        }
        if identity.is_over(now.unix_ms) {
            return Err(ErrorCode::AuthExpired.because("Your token has expired: ask for a new one."));
        }
        Ok(())
    }

    fn session_json(&self, room: &Room) -> Value {
        let mut body = room.settings.to_json();
        body["sessionId"] = json!(&*room.session);
        body["meetingId"] = json!(&*room.meeting);
        body["startedAt"] = json!(room.life.began());
        body["locked"] = json!(room.locked);
        body["participants"] = json!(Roster(room));
        body["waiting"] = self.who_waits(&room.session);
        body
    }

    /// The rules of a session: its own, or the server's.
    pub(crate) fn rules(&self, session: &str) -> &RoomSettings {
        self.settings.get(session).map_or(&self.room_settings, |own| own)
    }

    /// The rules of a session, from now on; of a meeting that is on, too.
    pub(crate) fn set_rules(&mut self, session: &Arc<str>, settings: Option<Box<RoomSettings>>, now: Now) {
        match settings {
            None => {
                self.settings.remove(session);
            }
            Some(settings) if self.settings.len() < SETTINGS_MAX || self.settings.contains_key(session) => {
                self.settings.insert(session.clone(), *settings);
            }
            Some(_) => return,
        }
        if let Some(room) = self.sessions.get(session).copied() {
            self.apply_rules(room);
        }
        if !self.rules(session).waiting_room && self.queues.contains_key(session) {
            // Those who find no place go on waiting.
            let _ = self.admit(session, None, now);
        }
    }

    fn apply_rules(&mut self, id: RoomId) {
        let Some(session) = self.rooms.get(&id).map(|room| room.session.clone()) else { return };
        let rules = self.rules(&session).clone();
        let Some(room) = self.rooms.get_mut(&id).filter(|room| room.settings != rules) else { return };
        room.settings = rules;
        let seats: Vec<_> = room.seats.keys().copied().collect();
        self.tell_session(id);
        for seat in seats {
            self.reconsider(Place { room: id, seat }, true);
        }
    }
}
