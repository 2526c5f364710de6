//! Users' tokens by a key set that a server of the test publishes: rotation, an issuer that is away, and who is no user.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use sfu::Now;

use super::*;
use crate::auth::User;

/// An identity provider.
struct Issuer {
    url: String,
    /// What it answers.
    answer: Arc<Mutex<(u16, String)>>,
    fetched: Arc<AtomicUsize>,
    /// Fetches wait here for as long as a test holds it.
    door: Arc<tokio::sync::Mutex<()>>,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        let answer = Arc::new(Mutex::new((200, json!({ "keys": keys }).to_string())));
        let (fetched, door) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Mutex::new(())));
        let route = {
            let (answer, fetched, door) = (answer.clone(), fetched.clone(), door.clone());
            get(move || async move {
                fetched.fetch_add(1, Ordering::SeqCst);
                drop(door.lock().await);
                let (status, body) = answer.lock().expect("nobody panicked").clone();
                (StatusCode::from_u16(status).expect("a status"), body)
            })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let app = Router::new().route("/auth/v1/.well-known/jwks.json", route);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Issuer { url, answer, fetched, door }
    }

    fn publish(&self, keys: &[Value]) {
        *self.answer.lock().expect("nobody panicked") = (200, json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.answer.lock().expect("nobody panicked") = (503, "{}".to_owned());
    }

    fn fetches(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }

    /// As `SUPABASE_URL` makes it.
    fn auth(&self) -> Auth {
        let issuer = format!("{}/auth/v1", self.url);
        let jwks_url = format!("{issuer}/.well-known/jwks.json");
        auth(&AuthSettings { issuer, jwks_url, audience: "authenticated".to_owned(), ..AuthSettings::default() })
    }

    /// What such a project says of somebody who is signed in.
    fn claims(&self) -> Value {
        json!({
            "iss": format!("{}/auth/v1", self.url), "sub": "6f1c", "aud": "authenticated", "exp": NOW + 600, "iat": NOW,
            "role": "authenticated", "email": "ada@school.example", "is_anonymous": false,
            "app_metadata": { "provider": "email" }, "user_metadata": { "role": "instructor", "sessions": ["algebra"] },
        })
    }
}

async fn user(auth: &Auth, token: &str, mono: Instant) -> Result<User, ErrorCode> {
    auth.user(token, Now { mono, unix_ms: NOW * 1000 }).await.map_err(|why| why.code)
}

#[tokio::test]
async fn each_kind_of_key_names_users() {
    let signers = [Signer::rsa(), Signer::ec(), Signer::ed()];
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk(signer.alg())).collect();
    let issuer = Issuer::start(&keys).await;
    let (auth, start) = (issuer.auth(), Instant::now());
    for signer in &signers {
        let found = user(&auth, &signer.named(signer.alg(), &issuer.claims()), start).await.expect("a user");
        let expected = User { id: "6f1c".into(), name: None, role: Role::Participant, sessions: Vec::new() };
        assert_eq!(found, expected, "what users can write themselves makes nobody an instructor");
        // Of each algorithm there is one key, so it needs no name.
        let unnamed = signer.token(&json!({ "alg": signer.alg() }), &issuer.claims());
        assert!(user(&auth, &unnamed, start).await.is_ok(), "{}", signer.alg());
    }
    // A key is for one algorithm, whatever a token under its name says.
    for (name, signer) in [("RS256", &signers[1]), ("ES256", &signers[2]), ("EdDSA", &signers[0])] {
        assert_eq!(user(&auth, &signer.named(name, &issuer.claims()), start).await, Err(ErrorCode::AuthInvalid));
    }
    for signer in &signers {
        let public = Signer::Shared(signer.public());
        let forged = public.named(signer.alg(), &issuer.claims());
        assert_eq!(user(&auth, &forged, start).await, Err(ErrorCode::AuthInvalid), "{} as a secret", signer.alg());
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn keys_that_are_none_are_left_out() {
    let secret = Signer::shared("a secret that somebody published, by mistake");
    let ec = Signer::ec();
    let changed = |field: &str, value: Value| {
        let mut jwk = ec.jwk("ec");
        jwk[field] = value;
        jwk
    };
    let keys = [
        secret.jwk("oct"),
        changed("alg", json!("ES384")),
        changed("crv", json!("P-384")),
        changed("use", json!("enc")),
        changed("key_ops", json!(["sign"])),
        changed("x", json!("AAAA")),
        changed("kid", json!(7)),
        json!({ "kty": "RSA", "kid": "short", "n": part(&[0xff; 128]), "e": "AQAB" }),
        json!({ "kty": "OKP", "crv": "X25519", "kid": "dh", "x": part(&[1; 32]) }),
        json!("ec"),
        json!(null),
    ];
    let issuer = Issuer::start(&keys).await;
    let (auth, start) = (issuer.auth(), Instant::now());
    for token in [ec.named("ec", &issuer.claims()), secret.named("oct", &issuer.claims())] {
        assert!(user(&auth, &token, start).await.is_err());
    }
    issuer.publish(&[&keys[..], &[ec.jwk("ec")]].concat());
    let later = start + Duration::from_secs(10);
    assert!(user(&auth, &ec.named("ec", &issuer.claims()), later).await.is_ok());
    assert!(user(&auth, &secret.named("oct", &issuer.claims()), later).await.is_err());
}

#[tokio::test]
async fn keys_rotate_and_made_up_names_cause_few_fetches() {
    let (old, new) = (Signer::ec(), Signer::ec());
    let issuer = Issuer::start(&[old.jwk("old")]).await;
    let (auth, start) = (issuer.auth(), Instant::now());
    assert!(user(&auth, &old.named("old", &issuer.claims()), start).await.is_ok());
    issuer.publish(&[old.jwk("old"), new.jwk("new")]);
    let token = new.named("new", &issuer.claims());
    // Just fetched: a name that is not there is not looked for again at once.
    for i in 0..50 {
        let made_up = new.named(&format!("made up {i}"), &issuer.claims());
        assert_eq!(user(&auth, &made_up, start).await, Err(ErrorCode::AuthInvalid));
    }
    assert_eq!(user(&auth, &token, start).await, Err(ErrorCode::AuthInvalid));
    assert_eq!(issuer.fetches(), 1);
    let later = start + Duration::from_secs(10);
    assert!(user(&auth, &token, later).await.is_ok(), "a new key is known after 10 s at most");
    assert!(user(&auth, &old.named("old", &issuer.claims()), later).await.is_ok());
    assert_eq!(issuer.fetches(), 2);
    // The old key is withdrawn: the next user after 10 minutes has the set fetched, who comes then finds it gone.
    issuer.publish(&[new.jwk("new")]);
    let much_later = later + Duration::from_secs(600);
    assert!(user(&auth, &token, much_later).await.is_ok());
    while user(&auth, &old.named("old", &issuer.claims()), much_later).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(issuer.fetches(), 3);
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait() {
    let ec = Signer::ec();
    let issuer = Issuer::start(&[ec.jwk("k")]).await;
    let (auth, start) = (issuer.auth(), Instant::now());
    let closed = issuer.door.clone().lock_owned().await;
    let token = ec.named("k", &issuer.claims());
    let all: Vec<_> = (0..100)
        .map(|_| {
            let (auth, token) = (auth.clone(), token.clone());
            tokio::spawn(async move { user(&auth, &token, start).await })
        })
        .collect();
    while issuer.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    drop(closed);
    for one in all {
        assert!(one.await.expect("it does not panic").is_ok());
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn old_keys_go_on_while_the_issuer_is_away_but_not_forever() {
    let ec = Signer::ec();
    let issuer = Issuer::start(&[ec.jwk("k")]).await;
    let (auth, start) = (issuer.auth(), Instant::now());
    let token = ec.named("k", &issuer.claims());
    issuer.fail();
    assert_eq!(user(&auth, &token, start).await, Err(ErrorCode::Overloaded), "nobody can say whether it is good");
    issuer.publish(&[ec.jwk("k")]);
    let start = start + Duration::from_secs(10);
    assert!(user(&auth, &token, start).await.is_ok());
    for trouble in [(503, "{}"), (200, "{}"), (200, "<html>"), (200, "{\"keys\":[]}"), (302, "")] {
        *issuer.answer.lock().expect("nobody panicked") = (trouble.0, trouble.1.to_owned());
        for hours in 1..24 {
            assert!(user(&auth, &token, start + Duration::from_secs(hours * 3600)).await.is_ok(), "{trouble:?}");
        }
    }
    let day = start + Duration::from_secs(24 * 3600);
    assert_eq!(user(&auth, &token, day).await, Err(ErrorCode::Overloaded));
}

#[tokio::test]
async fn who_is_no_user() {
    let ec = Signer::ec();
    let issuer = Issuer::start(&[ec.jwk("k")]).await;
    let (auth, start) = (issuer.auth(), Instant::now());
    let mut tokens = Vec::new();
    for (claim, value) in [
        ("iss", Some(json!("https://evil.example/auth/v1"))),
        ("iss", Some(json!(format!("{}/auth/v1/", issuer.url)))),
        ("iss", None),
        ("aud", Some(json!("anon"))),
        ("aud", Some(json!(["lyceum", "authenticated"]))),
        ("aud", None),
        ("sub", Some(json!(""))),
        ("sub", Some(json!(null))),
        ("sub", Some(json!(7))),
        ("sub", Some(json!("sfu"))),
        ("sub", None),
        ("role", Some(json!("anon"))),
        ("role", Some(json!("service_role"))),
        ("role", Some(json!(""))),
        ("role", None),
        ("exp", None),
        ("exp", Some(json!("2030-01-01"))),
        ("nbf", Some(json!(NOW + 31))),
    ] {
        let mut claims = issuer.claims();
        match &value {
            Some(value) => claims[claim] = value.clone(),
            None => drop(claims.as_object_mut().expect("an object").remove(claim)),
        }
        tokens.push((format!("{claim} {value:?}"), ec.named("k", &claims)));
    }
    for (what, token) in tokens {
        assert_eq!(user(&auth, &token, start).await, Err(ErrorCode::AuthInvalid), "{what}");
    }
    let mut over = issuer.claims();
    over["exp"] = json!(NOW - 30);
    assert_eq!(user(&auth, &ec.named("k", &over), start).await, Err(ErrorCode::AuthExpired));
    over["exp"] = json!(NOW - 29);
    assert!(user(&auth, &ec.named("k", &over), start).await.is_ok());
}

#[tokio::test]
async fn supabase_keys_that_are_tokens_name_nobody() {
    // With the project's own secret as ours, its public key is a token that we could believe.
    let auth = auth(&AuthSettings { issuer: String::new(), ..settings() });
    let anon = json!({ "iss": "supabase", "ref": "abc", "role": "anon", "iat": NOW, "exp": NOW + 600 });
    let mut named = anon.clone();
    named["sub"] = json!("somebody");
    let mut service = named.clone();
    service["role"] = json!("service_role");
    for claims in [&anon, &named, &service] {
        assert_eq!(user(&auth, &hs256(claims), Instant::now()).await, Err(ErrorCode::AuthInvalid), "{claims}");
        assert_eq!(verified(&auth, &hs256(claims)).await, Err(ErrorCode::AuthInvalid), "{claims}");
    }
    let signed_in = json!({ "sub": "6f1c", "role": "authenticated", "aud": "authenticated", "exp": NOW + 600 });
    assert!(user(&auth, &hs256(&signed_in), Instant::now()).await.is_ok());
    assert_eq!(user(&auth, &hs256(&claims()), Instant::now()).await, Err(ErrorCode::AuthInvalid), "a join token");
}

#[tokio::test]
async fn only_configured_claims_under_app_metadata_count() {
    let configured =
        AuthSettings { role_claim: "lyceum_role".to_owned(), sessions_claim: "cohorts".to_owned(), ..settings() };
    let mut claims = json!({ "sub": "t1", "name": "Grace", "aud": "app", "exp": NOW + 600,
        "lyceum_role": "instructor", "cohorts": ["c0"], "user_metadata": { "lyceum_role": "instructor", "cohorts": ["c0"] } });
    let named = |auth: Auth, claims: &Value| {
        let token = hs256(claims);
        async move { user(&auth, &token, Instant::now()).await.expect("a user") }
    };
    let found = named(auth(&configured), &claims).await;
    assert_eq!((found.role, found.sessions.len(), found.name.as_deref()), (Role::Participant, 0, Some("Grace")));
    claims["app_metadata"] = json!({ "lyceum_role": "instructor", "cohorts": ["c1", 7, "c2"] });
    let found = named(auth(&configured), &claims).await;
    assert_eq!((found.role, found.sessions), (Role::Instructor, vec!["c1".to_owned(), "c2".to_owned()]));
    let found = named(auth(&settings()), &claims).await;
    assert_eq!((found.role, found.sessions.len()), (Role::Participant, 0), "nothing is configured");
}
