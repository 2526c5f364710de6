//! Tokens made by hand: what is believed, and with which code all else is refused.

mod forged;
mod set;
mod signers;

use serde_json::{Value, json};
use signaling::{ErrorCode, Identity, Permissions, Role};

use self::signers::{Signer, part};
use super::{Auth, OwnKey};
use crate::config::{AuthSettings, KeyPair, Secret};
use crate::outbound::Outbound;

/// When all these tests happen, in seconds.
const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a test's secret of 32 bytes, at least";
const PAIR: (&str, &str) = ("app", "the secret of the application's own pair");

fn settings() -> AuthSettings {
    AuthSettings { secret: Secret(SECRET.to_owned()), ..AuthSettings::default() }
}

fn with_pair() -> AuthSettings {
    AuthSettings { keys: vec![KeyPair { id: PAIR.0.to_owned(), secret: Secret(PAIR.1.to_owned()) }], ..settings() }
}

fn auth(settings: &AuthSettings) -> Auth {
    Auth::new(settings, OwnKey::fleeting(), &Outbound::new(&[]))
}

/// The claims of a good join token.
fn claims() -> Value {
    json!({ "sub": "ada", "name": "Ada", "sessionId": "algebra", "aud": "lyceum", "iss": "school", "exp": NOW + 600, "jti": "j1" })
}

/// The same, with one claim changed, or left out.
fn changed(name: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().expect("an object").remove(name)),
    }
    claims
}

fn hs256(claims: &Value) -> String {
    Signer::shared(SECRET).token(&json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

async fn verified(auth: &Auth, token: &str) -> Result<Identity, ErrorCode> {
    auth.verify(token, NOW * 1000).await.map_err(|why| why.code)
}

#[tokio::test]
async fn a_join_token_says_who_where_and_as_what() {
    let auth = auth(&settings());
    let identity = verified(&auth, &hs256(&claims())).await.expect("a good token");
    let expected = Identity {
        user: "ada".into(),
        name: Some("Ada".into()),
        session: "algebra".into(),
        role: Role::Participant,
        permissions: Permissions::of(Role::Participant),
        token: Some("j1".into()),
        expires_ms: (NOW + 600) * 1000,
        is_expired: false,
    };
    assert_eq!(identity, expected);
    let mut claims = changed("role", Some(json!("instructor")));
    claims["permissions"] = json!({ "publish": ["microphone"], "moderate": false });
    let identity = verified(&auth, &hs256(&claims)).await.expect("a good token");
    let microphone = [sfu::Source::Microphone].into_iter().collect();
    let some = Permissions { publish: microphone, moderate: false, ..Permissions::of(Role::Instructor) };
    assert_eq!((identity.role, identity.permissions), (Role::Instructor, some));
}

#[tokio::test]
async fn names_are_those_of_the_wire() {
    let auth = auth(&settings());
    let mut claims = changed("sub", Some(json!(7)));
    claims["sessionId"] = json!("  Algebra \u{a0}");
    let identity = verified(&auth, &hs256(&claims)).await.expect("a good token");
    assert_eq!((&*identity.user, &*identity.session), ("7", "Algebra"));
    // What only looks like a session is another session: nothing is folded.
    for session in ["*", "ALGEBRA", "algebra%20", "аlgebra", "algebra\u{200b}", "../algebra"] {
        let identity =
            verified(&auth, &hs256(&changed("sessionId", Some(json!(session))))).await.expect("a good token");
        assert_eq!(&*identity.session, session);
    }
}

#[tokio::test]
async fn what_is_minted_is_believed() {
    for settings in
        [settings(), with_pair(), AuthSettings { secret: Secret::default(), ..with_pair() }, AuthSettings::default()]
    {
        let auth = auth(&settings);
        let first = verified(&self::auth(&self::settings()), &hs256(&claims())).await.expect("a good token");
        let minted = auth.mint(&first, None, NOW * 1000 + 999);
        let read = verified(&auth, &minted.token).await.expect("our own");
        assert_eq!(read, *minted.identity);
        assert_eq!(read.expires_ms, (NOW + 900) * 1000, "in whole seconds, and not later than was meant");
        assert_ne!(read.token, first.token, "a token of its own");
        assert_eq!(Identity { token: first.token.clone(), expires_ms: first.expires_ms, ..read }, first);
    }
}

#[tokio::test]
async fn a_pair_signs_under_its_own_name() {
    let auth = auth(&with_pair());
    let token =
        |secret: &str, kid: &str| Signer::shared(secret).token(&json!({ "alg": "HS256", "kid": kid }), &claims());
    assert!(verified(&auth, &token(PAIR.1, PAIR.0)).await.is_ok());
    assert!(verified(&auth, &token(SECRET, "another issuer's name")).await.is_ok(), "issuers name their secrets, too");
    assert_eq!(verified(&auth, &token(SECRET, PAIR.0)).await, Err(ErrorCode::AuthInvalid));
    assert_eq!(verified(&auth, &token(PAIR.1, "app2")).await, Err(ErrorCode::AuthInvalid));
    assert!(auth.is_pair(PAIR.0, PAIR.1));
    for (id, secret) in [(PAIR.0, SECRET), ("app2", PAIR.1), ("", ""), (PAIR.0, ""), ("", PAIR.1)] {
        assert!(!auth.is_pair(id, secret), "{id}");
    }
}

#[tokio::test]
async fn operators_have_a_key_or_a_token() {
    let key = "the key of the operators, 32 bytes long";
    let auth = auth(&AuthSettings { admin_key: Secret(key.to_owned()), ..settings() });
    let token = |aud: &str, exp: u64| hs256(&json!({ "sub": "ops", "aud": aud, "exp": exp }));
    assert!(auth.is_admin(key, NOW * 1000));
    assert!(auth.is_admin(&token("lyceum-admin", NOW + 60), NOW * 1000));
    for shown in ["", "x", SECRET, &token("lyceum-admin", NOW - 60), &token("lyceum", NOW + 60), &hs256(&claims())] {
        assert!(!auth.is_admin(shown, NOW * 1000));
    }
    assert!(!self::auth(&settings()).is_admin("", NOW * 1000), "no key is no empty key");
}

#[tokio::test]
async fn open_mode_asks_for_nothing_and_required_mode_always() {
    let open = auth(&AuthSettings::default());
    assert_eq!(open.admit(Some("nonsense"), NOW * 1000).await, Ok(None));
    let required = auth(&settings());
    assert_eq!(required.admit(None, NOW * 1000).await.map_err(|why| why.code), Err(ErrorCode::AuthMissing));
    assert_eq!(required.admit(Some(""), NOW * 1000).await.map_err(|why| why.code), Err(ErrorCode::AuthInvalid));
    let admitted = required.admit(Some(&hs256(&claims())), NOW * 1000).await.expect("a good token");
    assert_eq!(admitted.map(|identity| identity.user.clone()).as_deref(), Some("ada"));
}

#[test]
fn parts_are_canonical() {
    assert_eq!(part(b"{}"), "e30");
}
