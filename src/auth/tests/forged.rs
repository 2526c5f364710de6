//! ABUSE J1, J2: each token that must not be believed, and its code.

use super::*;

/// Each must be `auth/invalid`.
async fn all_invalid(auth: &Auth, tokens: impl IntoIterator<Item = (String, String)>) {
    for (what, token) in tokens {
        assert_eq!(verified(auth, &token).await, Err(ErrorCode::AuthInvalid), "{what}");
    }
}

#[tokio::test]
async fn algorithms_that_sign_nothing_or_something_else() {
    let auth = auth(&settings());
    let shared = Signer::shared(SECRET);
    let headers = ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "hs256", "RS256", "ES256", "EdDSA", "PS256"];
    let mut tokens: Vec<(String, String)> =
        headers.iter().map(|alg| (format!("alg {alg}"), shared.token(&json!({ "alg": alg }), &claims()))).collect();
    for header in
        [json!({ "typ": "JWT" }), json!({ "alg": null }), json!({ "alg": ["HS256"] }), json!({ "alg": 256 }), json!([])]
    {
        tokens.push((format!("header {header}"), shared.token(&header, &claims())));
    }
    let unsigned = format!("{}.{}.", part(br#"{"alg":"none"}"#), part(claims().to_string().as_bytes()));
    tokens.push(("no signature".to_owned(), unsigned));
    tokens.push(("an empty secret".to_owned(), Signer::shared("").named("x", &claims())));
    tokens.push((
        "another secret".to_owned(),
        Signer::shared("another secret of at least 32 bytes").named("x", &claims()),
    ));
    all_invalid(&auth, tokens).await;
}

#[tokio::test]
async fn headers_that_bring_their_own_key() {
    let auth = auth(&settings());
    let ec = Signer::ec();
    let mut tokens = Vec::new();
    for (field, value) in [
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("jwk", ec.jwk("mine")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut header = json!({ "alg": "HS256" });
        header[field] = value;
        tokens.push((field.to_owned(), Signer::shared(SECRET).token(&header, &claims())));
        header["alg"] = json!("ES256");
        tokens.push((format!("{field}, signed by its own key"), ec.token(&header, &claims())));
    }
    for kid in [json!(7), json!(null), json!(["app"])] {
        tokens.push((
            format!("kid {kid}"),
            Signer::shared(SECRET).token(&json!({ "alg": "HS256", "kid": kid }), &claims()),
        ));
    }
    // A name is looked up in a list, and never a path, a query or an address; what it makes of the key is empty.
    for kid in ["../../../dev/null", "/dev/null", "x' UNION SELECT 'k", "https://evil.example/key", "app\0", ""] {
        tokens.push((format!("kid {kid}"), Signer::shared("").named(kid, &claims())));
    }
    all_invalid(&auth, tokens).await;
}

#[tokio::test]
async fn public_keys_are_no_secrets() {
    // Only a key set is configured: nothing that is shared may be believed, least of all what is published.
    let auth = auth(&AuthSettings {
        jwks_url: "http://127.0.0.1:9/jwks.json".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        audience: "authenticated".to_owned(),
        ..AuthSettings::default()
    });
    assert!(auth.is_required());
    let mut tokens = Vec::new();
    for signer in [Signer::rsa(), Signer::ec(), Signer::ed()] {
        let public = Signer::Shared(signer.public());
        tokens.push((format!("the public key of {} as a secret", signer.alg()), public.named("k", &claims())));
        let jwk = Signer::Shared(signer.jwk("k").to_string().into_bytes());
        tokens.push((format!("the JWK of {} as a secret", signer.alg()), jwk.named("k", &claims())));
        tokens.push((format!("a join token signed with {}", signer.alg()), signer.named("k", &claims())));
    }
    tokens.push(("HS256 where no secret is shared".to_owned(), hs256(&claims())));
    all_invalid(&auth, tokens).await;
}

#[tokio::test]
async fn spellings_that_are_none() {
    let auth = auth(&settings());
    let good = hs256(&claims());
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let last = signature.chars().last().expect("a signature");
    // 32 bytes leave two bits of the last character unused: another character with the same four bits would be a second spelling.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("base64url");
    let twin = alphabet.chars().nth(at ^ 1).expect("64 characters");
    let shared = Signer::shared(SECRET);
    let long = changed("name", Some(json!("x".repeat(10_000))));
    let tokens = [
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("two tokens", format!("{good} {good}")),
        ("two tokens with a comma", format!("{good},{good}")),
        ("padding", format!("{good}=")),
        ("a line end", format!("{good}\n")),
        ("a space before", format!(" {good}")),
        ("a prefix", format!("Bearer {good}")),
        ("unused bits set", format!("{message}.{}{twin}", &signature[..signature.len() - 1])),
        ("a signature that is cut", good[..good.len() - 4].to_owned()),
        ("base64 of the other alphabet", format!("{message}.{}", signature.replace(['-', '_'], "+"))),
        ("10 kB", hs256(&long)),
        ("claims that are a list", shared.raw(br#"{"alg":"HS256"}"#, b"[]")),
        ("claims that are no JSON", shared.raw(br#"{"alg":"HS256"}"#, b"{")),
        ("claims behind the claims", shared.raw(br#"{"alg":"HS256"}"#, format!("{}{{}}", claims()).as_bytes())),
        ("claims that are no UTF-8", shared.raw(br#"{"alg":"HS256"}"#, b"{\"sub\":\"\xff\"}")),
        ("JSON serialisation", json!({ "payload": "e30", "signature": "" }).to_string()),
    ];
    let tokens = tokens.into_iter().filter(|(_, token)| *token != good);
    all_invalid(&auth, tokens.map(|(what, token)| (what.to_owned(), token))).await;
}

#[tokio::test]
async fn times_that_are_none() {
    let auth = auth(&settings());
    let mut tokens = Vec::new();
    let soon = NOW + 600;
    for value in [
        json!(soon.to_string()),
        json!(soon as f64 + 0.5),
        json!(-1),
        json!(null),
        json!([soon]),
        json!(u64::MAX),
        json!(true),
    ] {
        tokens.push((format!("exp {value}"), hs256(&changed("exp", Some(value.clone())))));
        tokens.push((format!("nbf {value}"), hs256(&changed("nbf", Some(value)))));
    }
    tokens.push(("no exp".to_owned(), hs256(&changed("exp", None))));
    let raw = |exp: &str| {
        let claims = claims().to_string().replace(&soon.to_string(), exp);
        Signer::shared(SECRET).raw(br#"{"alg":"HS256"}"#, claims.as_bytes())
    };
    for exp in ["1e400", "1e10", "NaN", "Infinity", "0x7fffffff", "-0.0"] {
        tokens.push((format!("exp {exp}"), raw(exp)));
    }
    tokens.push(("not yet".to_owned(), hs256(&changed("nbf", Some(json!(NOW + 31))))));
    all_invalid(&auth, tokens).await;
    assert!(verified(&auth, &raw(&soon.to_string())).await.is_ok());
}

#[tokio::test]
async fn both_sides_of_each_edge() {
    let auth = auth(&settings());
    let at = |claims: Value, ms: u64| {
        let (auth, token) = (auth.clone(), hs256(&claims));
        async move { auth.verify(&token, ms).await.map(|identity| identity.is_expired).map_err(|why| why.code) }
    };
    let ends = |exp: u64| changed("exp", Some(json!(exp)));
    let begins = |nbf: u64| changed("nbf", Some(json!(nbf)));
    let edge = (NOW + 30) * 1000;
    assert_eq!(at(ends(NOW), edge - 1).await, Ok(false), "clocks may differ by 30 s");
    assert_eq!(at(ends(NOW), edge).await, Ok(true), "and no more");
    let day = 24 * 60 * 60 * 1000;
    assert_eq!(at(ends(NOW), NOW * 1000 + day).await, Ok(true), "it may belong to a seat that lives");
    assert_eq!(at(ends(NOW), NOW * 1000 + day + 1).await, Err(ErrorCode::AuthExpired));
    assert_eq!(at(ends(0), NOW * 1000).await, Err(ErrorCode::AuthExpired));
    assert_eq!(at(begins(NOW + 30), NOW * 1000).await, Ok(false));
    assert_eq!(at(begins(NOW + 30), NOW * 1000 - 1).await, Err(ErrorCode::AuthInvalid));
}

#[tokio::test]
async fn claims_that_name_nobody_or_nothing() {
    let auth = auth(&settings());
    let mut tokens = Vec::new();
    for name in ["sub", "sessionId", "aud"] {
        tokens.push((format!("no {name}"), hs256(&changed(name, None))));
    }
    let long = "x".repeat(129);
    for (name, value) in [
        ("sub", json!("")),
        ("sub", json!("  ")),
        ("sub", json!("sfu")),
        ("sub", json!(null)),
        ("sub", json!(["ada"])),
        ("sub", json!("a\u{0}b")),
        ("sub", json!(long)),
        ("sessionId", json!("a\nb")),
        ("sessionId", json!({ "id": "algebra" })),
        ("sessionId", json!(long)),
        ("name", json!("a\u{7f}b")),
        ("name", json!(null)),
        ("aud", json!("Lyceum")),
        ("aud", json!("lyceum ")),
        ("aud", json!("lyceum-admin")),
        ("aud", json!(["authenticated"])),
        ("aud", json!({ "lyceum": true })),
        ("iss", json!(7)),
        ("jti", json!("")),
        ("jti", json!(7)),
        ("jti", json!("x".repeat(65))),
        ("role", json!("admin")),
        ("role", json!("Instructor")),
        ("role", json!(null)),
        ("role", json!(["instructor"])),
        ("permissions", json!("all")),
        ("permissions", json!(null)),
        ("permissions", json!({ "publish": "camera" })),
        ("permissions", json!({ "publish": ["*"] })),
        ("permissions", json!({ "publish": [1] })),
        ("permissions", json!({ "moderate": "true" })),
        ("permissions", json!({ "moderate": 1 })),
        ("permissions", json!({ "chat": null })),
    ] {
        tokens.push((format!("{name} {value}"), hs256(&changed(name, Some(value)))));
    }
    all_invalid(&auth, tokens).await;
    for aud in [json!(["lyceum"]), json!(["other", "lyceum"])] {
        assert!(verified(&auth, &hs256(&changed("aud", Some(aud)))).await.is_ok());
    }
}
