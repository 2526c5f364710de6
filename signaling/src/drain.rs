//! An end that is announced: who is here stays until then, and nobody new comes in.

use serde_json::json;

use crate::Lobby;
use crate::api::{Recipients, SocketId};
use crate::code::{ErrorCode, Refused};

impl Lobby {
    /// Tells every socket when the server ends, and lets nobody new in from now on. Told again, the new time counts.
    pub(crate) fn drain(&mut self, deadline_ms: u64) {
        self.draining = Some(deadline_ms);
        let all = self.sockets.keys().copied().collect();
        self.tell_draining(Recipients::Many(all));
    }

    /// Tells a socket that continues a seat what it missed while it was away.
    pub(crate) fn tell_if_draining(&mut self, socket: SocketId) {
        if self.draining.is_some() {
            self.tell_draining(Recipients::One(socket));
        }
    }

    fn tell_draining(&mut self, to: Recipients) {
        self.emit(to, "server-draining", &json!({ "deadline": self.draining }));
    }

    /// Whether somebody new may come.
    pub(crate) fn check_draining(&self) -> Result<(), Refused> {
        match self.draining {
            None => Ok(()),
            Some(_) => Err(ErrorCode::Draining.because("The server is about to stop: join again in a moment.")),
        }
    }
}
