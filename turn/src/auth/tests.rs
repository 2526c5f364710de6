use super::*;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::StreamId;
use crate::credential::Credential;
use crate::stun::{Class, Method, TransactionId};

const REALM: &str = "lyceum";
const SECRET: &[u8] = b"north";
const ID: TransactionId = TransactionId([7; 12]);
const UNIX_S: u64 = 1_700_000_000;

struct Bench {
    authenticator: Authenticator,
    now: Now,
    client: Client,
    out: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let now = Now { mono: Instant::now(), unix_ms: UNIX_S * 1_000 };
        Bench {
            authenticator: Authenticator::new(REALM, SECRET, [3; 32], now),
            now,
            client: udp("192.0.2.1:5000"),
            out: vec![],
        }
    }

    /// The answer's code; 0 for a request that passes, 1 for one that is not answered.
    fn code(&mut self, request: &[u8]) -> u16 {
        let message = Message::parse(request).unwrap();
        match self.authenticator.check(&message, &self.client, request.len(), self.now, &mut self.out) {
            Ok(_) => 0,
            Err(Refusal::RateLimited) => 1,
            Err(refusal) => {
                let answer = Message::parse(&self.out).unwrap();
                assert_eq!((answer.class(), answer.transaction_id()), (Class::Error, ID));
                assert_eq!(answer.method(), message.method());
                assert!(!answer.has_integrity());
                let (code, _) = answer.error_code().unwrap();
                let refused = [(Refusal::BadRequest, 400), (Refusal::Unauthenticated, 401), (Refusal::StaleNonce, 438)];
                assert!(refused.contains(&(refusal, code)), "{refusal:?} {code}");
                let challenged = answer.nonce().is_some() && answer.realm() == Some(REALM);
                assert_eq!(challenged, code != 400);
                code
            }
        }
    }

    fn passes(&mut self, request: &[u8]) -> bool {
        self.code(request) == 0
    }

    /// The nonce of the last answer.
    fn nonce(&self) -> Vec<u8> {
        Message::parse(&self.out).unwrap().nonce().unwrap().to_vec()
    }

    fn long_nonce(&mut self) -> Vec<u8> {
        let long = request(|it| it.attribute(AttributeType::SOFTWARE, &[b'x'; 80]));
        assert_eq!(self.code(&long), 401);
        assert_eq!(self.nonce().len(), 25);
        self.nonce()
    }

    fn short_nonce(&mut self) -> Vec<u8> {
        assert_eq!(self.code(&request(|it| it.requested_transport(17))), 401);
        assert_eq!(self.nonce().len(), 12);
        self.nonce()
    }
}

fn udp(remote: &str) -> Client {
    let remote: SocketAddr = remote.parse().unwrap();
    Client::Udp { local: SocketAddr::new(remote.ip(), 3478), remote }
}

fn request(with: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    with(Writer::request(&mut out, Method::ALLOCATE, ID));
    out
}

fn seat() -> Credential {
    credential::mint(SECRET, "seat", UNIX_S + 60)
}

fn md5(credential: &Credential) -> [u8; 16] {
    credential::md5_key(&credential.username, REALM, &credential.password)
}

fn sha256(credential: &Credential) -> [u8; 32] {
    credential::sha256_key(&credential.username, REALM, &credential.password)
}

/// What a client that knows nothing of algorithms sends.
fn classic(nonce: &[u8], key: &[u8]) -> Vec<u8> {
    request(|it| it.requested_transport(17).username(&seat().username).realm(REALM).nonce(nonce).integrity(key))
}

/// What a client of RFC 8489 sends.
fn modern(nonce: &[u8], offer: &[u8], choice: &[u8]) -> Vec<u8> {
    let key = if choice == CHOSE_SHA256 { sha256(&seat()).to_vec() } else { md5(&seat()).to_vec() };
    request(|it| {
        it.username(&seat().username)
            .realm(REALM)
            .nonce(nonce)
            .attribute(AttributeType::PASSWORD_ALGORITHMS, offer)
            .attribute(AttributeType::PASSWORD_ALGORITHM, choice)
            .integrity_sha256(&key)
    })
}

#[test]
fn a_classic_client_passes_with_either_nonce() {
    let mut bench = Bench::new();
    for nonce in [bench.short_nonce(), bench.long_nonce()] {
        let request = classic(&nonce, &md5(&seat()));
        let message = Message::parse(&request).unwrap();
        let checked = bench.authenticator.check(&message, &bench.client, request.len(), bench.now, &mut bench.out);
        let sealed = checked.expect("it passes");
        assert_eq!((sealed.holder, sealed.expires_unix_s), ("seat", UNIX_S + 60));
        assert!(bench.out.is_empty());
        let mut answer = Vec::new();
        sealed.key.clone().seal(Writer::success(&mut answer, Method::ALLOCATE, ID).lifetime(600));
        let answer = Message::parse(&answer).unwrap();
        assert!(answer.check_integrity(&md5(&seat())) && !answer.has_integrity_sha256());
        assert!(!format!("{sealed:?} {:?}", bench.authenticator).contains("key: ["));
    }
}

#[test]
fn a_modern_client_passes_and_is_answered_in_kind() {
    let mut bench = Bench::new();
    let nonce = bench.long_nonce();
    for (choice, key) in [(CHOSE_SHA256, sha256(&seat()).to_vec()), (CHOSE_MD5, md5(&seat()).to_vec())] {
        let request = modern(&nonce, OFFERED, choice);
        let message = Message::parse(&request).unwrap();
        let checked = bench.authenticator.check(&message, &bench.client, request.len(), bench.now, &mut bench.out);
        let mut answer = Vec::new();
        checked.expect("it passes").key.seal(Writer::success(&mut answer, Method::ALLOCATE, ID));
        let answer = Message::parse(&answer).unwrap();
        assert!(answer.check_integrity_sha256(&key) && !answer.check_integrity(&key));
    }
}

#[test]
fn what_is_missing_is_said() {
    let mut bench = Bench::new();
    let nonce = bench.short_nonce();
    let (name, key) = (seat().username, md5(&seat()));
    assert_eq!(bench.code(&request(|it| it.lifetime(0))), 401);
    assert_eq!(bench.code(&request(|it| it.username(&name).realm(REALM).nonce(&nonce))), 401, "no integrity");
    assert_eq!(bench.code(&request(|it| it.realm(REALM).nonce(&nonce).integrity(&key))), 400);
    assert_eq!(bench.code(&request(|it| it.username(&name).nonce(&nonce).integrity(&key))), 400);
    assert_eq!(bench.code(&request(|it| it.username(&name).realm(REALM).integrity(&key))), 400);
    // Behind the integrity they are not there.
    assert_eq!(bench.code(&request(|it| it.integrity(&key).username(&name).realm(REALM).nonce(&nonce))), 400);
}

#[test]
fn what_is_wrong_does_not_pass() {
    let mut bench = Bench::new();
    let nonce = bench.short_nonce();
    let (name, key) = (seat().username, md5(&seat()));
    let sealed =
        |name: &str, realm: &str, key: &[u8]| request(|it| it.username(name).realm(realm).nonce(&nonce).integrity(key));
    assert!(bench.passes(&sealed(&name, REALM, &key)));
    assert_eq!(bench.code(&sealed(&name, REALM, b"no key")), 401);
    assert_eq!(bench.code(&sealed(&name, REALM, &sha256(&seat()))), 401, "a key that was not chosen");
    assert_eq!(bench.code(&sealed("1700000061:seat", REALM, &key)), 401, "a longer life");
    assert_eq!(bench.code(&sealed("1700000060:other", REALM, &key)), 401, "another's name");
    let other = credential::mint(b"south", "seat", UNIX_S + 60);
    assert_eq!(bench.code(&sealed(&name, REALM, &md5(&other))), 401, "another secret");
    let elsewhere = credential::md5_key(&name, "elsewhere", &seat().password);
    assert_eq!(bench.code(&sealed(&name, "elsewhere", &elsewhere)), 401, "another realm");
    for name in ["", "seat", ":", "x:seat", "-1:seat", "99999999999999999999:seat"] {
        let password = credential::password(SECRET, name);
        let key = credential::md5_key(name, REALM, &password);
        assert_eq!(bench.code(&sealed(name, REALM, &key)), 401, "a name that we do not make: {name}");
    }
    let hashed =
        request(|it| it.attribute(AttributeType::USERHASH, &[1; 32]).realm(REALM).nonce(&nonce).integrity(&key));
    assert_eq!(bench.code(&hashed), 401, "an unknown user");
    // One changed bit anywhere.
    let good = sealed(&name, REALM, &key);
    for at in 20..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        assert!(Message::parse(&bad).is_none() || !bench.passes(&bad), "byte {at}");
    }
}

#[test]
fn a_cut_sha256_does_not_pass() {
    let mut bench = Bench::new();
    let nonce = bench.long_nonce();
    let whole = modern(&nonce, OFFERED, CHOSE_SHA256);
    assert!(bench.passes(&whole));
    for kept in [16, 20, 28] {
        let mut cut = whole[..whole.len() - 32 + kept].to_vec();
        let at = cut.len() - kept - 2;
        cut[at..at + 2].copy_from_slice(&(kept as u16).to_be_bytes());
        let len = cut.len() as u16 - 20;
        cut[2..4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(bench.code(&cut), 401, "{kept} bytes");
    }
}

#[test]
fn an_offer_cannot_be_shortened_on_the_way() {
    let mut bench = Bench::new();
    let nonce = bench.long_nonce();
    assert!(bench.passes(&modern(&nonce, OFFERED, CHOSE_SHA256)));
    assert_eq!(bench.code(&modern(&nonce, CHOSE_MD5, CHOSE_MD5)), 400, "a shorter offer");
    assert_eq!(bench.code(&modern(&nonce, OFFERED, &[0, 3, 0, 0])), 400, "nothing of the offer");
    let half = |attribute: AttributeType, value: &[u8]| {
        request(|it| {
            it.username(&seat().username)
                .realm(REALM)
                .nonce(&nonce)
                .attribute(attribute, value)
                .integrity(&md5(&seat()))
        })
    };
    assert_eq!(bench.code(&half(AttributeType::PASSWORD_ALGORITHM, CHOSE_MD5)), 400);
    assert_eq!(bench.code(&half(AttributeType::PASSWORD_ALGORITHMS, OFFERED)), 400);
    // Who takes the cookie off the nonce, so that the client does not expect an offer, has a nonce that is not ours.
    assert_eq!(bench.code(&classic(&nonce[13..], &md5(&seat()))), 438);
}

#[test]
fn a_stale_nonce_is_replaced() {
    let mut bench = Bench::new();
    let key = md5(&seat());
    let mut nonce = bench.short_nonce();
    for _ in 0..3 {
        bench.now.mono += Duration::from_secs(600);
        assert!(bench.passes(&classic(&nonce, &key)));
        bench.now.mono += Duration::from_secs(1);
        assert_eq!(bench.code(&classic(&nonce, b"no key")), 401, "the password comes first");
        assert_eq!(bench.code(&classic(&nonce, &key)), 438);
        nonce = bench.nonce();
        assert!(bench.passes(&classic(&nonce, &key)));
    }
    // One from another address, or from before a restart, is replaced too.
    bench.client = udp("198.51.100.1:5000");
    assert_eq!(bench.code(&classic(&nonce, &key)), 438);
    nonce = bench.nonce();
    assert!(bench.passes(&classic(&nonce, &key)));
    bench.authenticator = Authenticator::new(REALM, SECRET, [4; 32], bench.now);
    assert_eq!(bench.code(&classic(&nonce, &key)), 438);
}

#[test]
fn strangers_are_answered_so_often() {
    let mut bench = Bench::new();
    let (nonce, key) = (bench.long_nonce(), md5(&seat()));
    let bare = request(|it| it.requested_transport(17));
    let answered = (0..1_000).filter(|_| bench.code(&bare) == 401).count();
    assert_eq!(answered, 499);
    assert_eq!(bench.code(&bare), 1);
    assert!(bench.out.is_empty());
    // Answers to Binding are counted by themselves.
    let mut answer = bare.clone();
    let client = bench.client;
    let bound = (0..1_000).filter(|_| bench.authenticator.admits(&client, bare.len(), &mut answer, bench.now)).count();
    assert_eq!((bound, answer.len()), (500, 0));
    // Who has credentials and a nonce is not in the way of that flood, nor when the nonce has become stale.
    assert!(bench.passes(&classic(&nonce, &key)));
    assert_eq!(bench.code(&classic(b"not one of ours", &key)), 1);
    bench.client = Client::Stream { stream: StreamId(1), remote: bench.client.remote(), secure: false };
    assert!((0..1_000).all(|_| bench.code(&bare) == 401), "streams have no forged source");
    bench.client = udp("192.0.2.1:5000");
    for _ in 0..600 {
        let _ = bench.code(&bare);
    }
    bench.now.mono += Duration::from_secs(601);
    for _ in 0..600 {
        let _ = bench.code(&bare);
    }
    assert_eq!(bench.code(&bare), 1);
    assert_eq!(bench.code(&classic(&nonce, &key)), 438);
}

/// Each attribute that a request may have, alone and with others, of many lengths: no answer is larger than 1.5 × the request.
#[test]
fn no_answer_to_a_stranger_is_larger_than_allowed() {
    for (remote, headers) in [("192.0.2.1:5000", 28), ("[2001:db8::1]:5000", 48), ("[::ffff:192.0.2.1]:5000", 28)] {
        let mut bench = Bench::new();
        bench.client = udp(remote);
        let mut check = |request: &[u8]| {
            bench.now.mono += Duration::from_secs(1);
            let code = bench.code(request);
            let (asked, answered) = (headers + request.len(), headers + bench.out.len());
            assert!(bench.out.is_empty() || 2 * answered <= 3 * asked, "{answered} bytes for {asked} by {remote}");
            code
        };
        assert_eq!(check(&request(|it| it.requested_transport(17))), 401, "the shortest Allocate");
        for len in (4..1_200).step_by(4) {
            let code = check(&request(|it| it.attribute(AttributeType::SOFTWARE, &vec![b'x'; len])));
            assert_eq!(code, 401, "what is as long as that or longer is answered, {len} bytes by {remote}");
        }
        check(&request(|it| it));
        check(&request(|it| it.dont_fragment()));
        let key = md5(&seat());
        type With = fn(Writer<'_>) -> Writer<'_>;
        let parts: [With; 5] = [
            |it| it.username("1700000060:seat"),
            |it| it.realm(REALM),
            |it| it.nonce(b"x"),
            |it| it.attribute(AttributeType::PASSWORD_ALGORITHMS, OFFERED),
            |it| it.attribute(AttributeType::PASSWORD_ALGORITHM, CHOSE_SHA256),
        ];
        for chosen in 0..1 << parts.len() {
            for seal in 0..4 {
                check(&request(|it| {
                    let chosen = parts.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
                    let it = chosen.fold(it, |it, (_, part)| part(it));
                    let it = if seal & 1 == 1 { it.integrity(&key) } else { it };
                    if seal & 2 == 2 { it.integrity_sha256(&key) } else { it }
                }));
            }
        }
    }
}

#[test]
fn the_answer_to_the_shortest_binding_is_within_the_limit() {
    for remote in ["192.0.2.1:5000", "[2001:db8::1]:5000"] {
        let mut bench = Bench::new();
        bench.client = udp(remote);
        let (client, now) = (bench.client, bench.now);
        let mut answer = Vec::new();
        Writer::success(&mut answer, Method::BINDING, ID).xor_mapped_address(client.remote()).fingerprint();
        assert!(bench.authenticator.admits(&client, 20, &mut answer, now) && !answer.is_empty());
        answer.resize(if client.remote().is_ipv4() { 44 } else { 54 }, 0);
        assert!(bench.authenticator.admits(&client, 20, &mut answer, now));
        answer.push(0);
        assert!(!bench.authenticator.admits(&client, 20, &mut answer, now) && answer.is_empty());
    }
}

#[test]
fn a_realm_that_is_too_long_costs_answers_and_nothing_else() {
    let mut bench = Bench::new();
    bench.authenticator = Authenticator::new("a realm of more bytes", SECRET, [3; 32], bench.now);
    assert_eq!(bench.code(&request(|it| it.requested_transport(17))), 1);
    assert!(bench.out.is_empty());
}
