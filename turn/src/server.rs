//! The TURN server (RFC 8656): what comes in is told apart here; what comes of it is in `requests` and `forward`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::answer::{self, Bad};
use crate::auth::Authenticator;
use crate::keyed::Keyed;
use crate::policy::Policy;
use crate::requests::{Good, Request, UNDERSTOOD};
use crate::stun::{Class, Message, Method, Writer};
use crate::table::Table;
use crate::{Action, AllocationId, Client, Config, Counters, Framing, Input, Now, Output, Refusal};

/// The TURN server. It owns all allocations; what clients send is forwarded in place.
///
/// A stranger's request leaves nothing behind: all state is of allocations and of granted holders.
#[derive(Debug)]
pub struct Server {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    pub(crate) policy: Policy,
    pub(crate) table: Table,
    pub(crate) rng: StdRng,
    /// What waits for [`Server::poll`]: what one call has caused, if the shell polls after each.
    pub(crate) outputs: VecDeque<Output>,
    auth: Authenticator,
    /// The last answer.
    answer: Vec<u8>,
}

impl Server {
    /// `seed` keys nonces, reservation tokens and hashes.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let auth = Authenticator::new(&config.realm, &config.secret, rng.random(), now);
        let keyed = Keyed::new(rng.random());
        Server {
            policy: Policy::new(&config, &keyed),
            table: Table::new(&config, &keyed),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            answer: Vec::new(),
            config,
            rng,
            auth,
        }
    }

    /// Takes a datagram of a client, or one frame of its stream: a STUN message or ChannelData with its padding.
    pub fn receive(&mut self, client: Client, bytes: &[u8], now: Now) -> Action<'_> {
        // The first two bits tell them apart (RFC 8656 §12).
        match bytes.first().map(|it| it >> 6) {
            Some(0) => self.message(&client, bytes, now),
            Some(1) => match self.channel_data(&client, bytes, now.mono) {
                Ok(action) => action,
                Err(refusal) => self.refuse(refusal),
            },
            _ => self.refuse(Refusal::Malformed),
        }
    }

    /// How `datagrams` payloads of `payload_bytes` bytes each are wrapped that `peer` sends to an allocation; `None` if they
    /// are dropped: no allocation, no permission, no bandwidth. Data indications differ in nothing but their payload.
    pub fn to_client(
        &mut self,
        allocation: AllocationId,
        peer: SocketAddr,
        payload_bytes: usize,
        datagrams: usize,
        now: Now,
    ) -> Option<Framing> {
        self.frame(allocation, peer, payload_bytes, datagrams, now.mono).map_err(|refusal| self.count(refusal)).ok()
    }

    /// Takes something else that happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.expire(now.mono);
        match input {
            Input::Grant { holder } => self.table.grant(holder),
            Input::Revoke { holder } => {
                for id in self.table.revoke(&holder) {
                    self.end(id, true);
                }
            }
            Input::Bound { allocation, there } => self.bound(allocation, there, now),
            Input::StreamClosed { stream } => {
                if let Some(id) = self.table.of_stream(stream) {
                    self.end(id, false);
                }
            }
            Input::Tick => {}
        }
    }

    /// The next thing to do, after each call of the others.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.table.deadline()
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, client: &Client) -> bool {
        self.table.has(client)
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn message(&mut self, client: &Client, bytes: &[u8], now: Now) -> Action<'_> {
        let Some(message) = Message::parse(bytes) else { return self.refuse(Refusal::Malformed) };
        match (message.class(), message.method()) {
            (Class::Request, _) if message.has_fingerprint() && !message.check_fingerprint() => {
                self.refuse(Refusal::Malformed)
            }
            (Class::Request, method) => {
                self.expire(now.mono);
                self.answer.clear();
                let refusal = if method == Method::BINDING {
                    self.binding(&message, client, bytes.len(), now)
                } else {
                    self.request(&message, client, bytes.len(), now)
                };
                if let Some(refusal) = refusal {
                    self.count(refusal);
                }
                if self.answer.is_empty() { Action::Nothing } else { Action::Reply(&self.answer) }
            }
            (Class::Indication, Method::SEND) => match self.send(&message, client, now.mono) {
                Ok(action) => action,
                Err(refusal) => self.refuse(refusal),
            },
            // A client keeps its NAT's binding alive (RFC 8489 §17.1.1).
            (Class::Indication, Method::BINDING) => Action::Nothing,
            _ => self.refuse(Refusal::Malformed),
        }
    }

    /// Answers Binding, which needs no credentials (RFC 8489 §7.3).
    fn binding(&mut self, message: &Message<'_>, client: &Client, bytes: usize, now: Now) -> Option<Refusal> {
        let unknown = message.unknown_beyond(UNDERSTOOD).next().is_some();
        if unknown {
            Writer::error(&mut self.answer, message.method(), message.transaction_id(), 420, "")
                .unknown_attributes(message.unknown_beyond(UNDERSTOOD))
                .fingerprint();
        } else {
            answer::bound(&mut self.answer, message.transaction_id(), client.remote());
        }
        if !self.auth.admits(client, bytes, &mut self.answer, now) {
            return Some(Refusal::RateLimited);
        }
        unknown.then_some(Refusal::UnknownAttribute)
    }

    /// Answers a request that needs credentials (RFC 8489 §9.2.4).
    fn request(&mut self, message: &Message<'_>, client: &Client, bytes: usize, now: Now) -> Option<Refusal> {
        let sealed = match self.auth.check(message, client, bytes, now, &mut self.answer) {
            Ok(sealed) => sealed,
            Err(refusal) => return Some(refusal),
        };
        let request = Request { message, client, sealed, now };
        let outcome = self.grant_request(&request);
        let (method, transaction) = (message.method(), message.transaction_id());
        let key = &request.sealed.key;
        let mut refused = None;
        let writer = match outcome {
            Ok(Good::Later) => return None,
            Ok(Good::Allocated(id)) => {
                answer::allocated(&mut self.answer, self.table.get(id)?, key);
                return None;
            }
            Ok(Good::Refreshed(lifetime_s)) => {
                Writer::success(&mut self.answer, method, transaction).lifetime(lifetime_s)
            }
            Ok(Good::Done) => Writer::success(&mut self.answer, method, transaction),
            // With a nonce, as each 401 has (RFC 8489 §9.2.4).
            Err(Bad::NotGranted) => {
                self.auth.unauthenticated(message, client, bytes, now, &mut self.answer);
                return Some(Refusal::NotGranted);
            }
            Err(bad) => {
                refused = Some(bad.refusal());
                let writer = bad.write(&mut self.answer, method, transaction);
                match bad {
                    Bad::UnknownAttribute => writer.unknown_attributes(message.unknown_beyond(UNDERSTOOD)),
                    _ => writer,
                }
            }
        };
        key.seal(writer).fingerprint();
        refused
    }

    /// Ends what has expired.
    fn expire(&mut self, now: Instant) {
        while let Some(id) = self.table.expired(now) {
            self.end(id, true);
        }
    }

    /// Ends an allocation, and its stream as well if the client does not do so itself.
    pub(crate) fn end(&mut self, id: AllocationId, hang_up: bool) {
        let Some(allocation) = self.table.remove(id) else { return };
        let (client, relayed) = (allocation.client, allocation.relayed);
        if allocation.pending.is_none()
            && let Some(count) = self.counters.allocations.get_mut(transport(&client))
        {
            *count -= 1;
        }
        if !self.config.listed.is_empty() {
            self.outputs.push_back(Output::Unbind { allocation: id });
        }
        for peer in allocation.reached {
            self.outputs.push_back(Output::PathClosed { allocation: id, relayed, peer });
        }
        if let (true, Client::Stream { stream, .. }) = (hang_up, client) {
            self.outputs.push_back(Output::Hangup { stream });
        }
    }

    pub(crate) fn count(&mut self, refusal: Refusal) {
        if let Some(count) = self.counters.refusals.get_mut(refusal as usize) {
            *count += 1;
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Action<'static> {
        self.count(refusal);
        Action::Nothing
    }
}

/// Which of [`Counters::allocations`] counts a client's.
pub(crate) fn transport(client: &Client) -> usize {
    match client {
        Client::Udp { .. } => 0,
        Client::Stream { secure: false, .. } => 1,
        Client::Stream { secure: true, .. } => 2,
    }
}
