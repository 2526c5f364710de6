//! Signatures, and when attempts are made.

use super::schedule::OFFSETS_MS;
use super::sign::{Disbelief, Secret, Signed, TOLERANCE_S, signatures, verify};
use super::*;
use crate::outbound::{Answer, CallFailed};

const NOW_S: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;

fn secret(fill: u8) -> Secret {
    use base64::Engine as _;
    let text = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([fill; 32]));
    Secret::parse(&text).expect("a good secret")
}

#[test]
fn signatures_are_those_of_the_specification() {
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a good secret");
    let signed = signatures(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW_S, BODY);
    assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn who_knows_one_of_two_secrets_believes_what_both_sign() {
    let signed = signatures(&[secret(1), secret(2)], "msg_1", NOW_S, BODY);
    let timestamp = NOW_S.to_string();
    let signed = Signed { id: "msg_1", timestamp: &timestamp, signatures: &signed };
    for known in [1, 2] {
        assert_eq!(verify(&secret(known), &signed, BODY, NOW_S), Ok(()));
    }
    assert_eq!(verify(&secret(3), &signed, BODY, NOW_S), Err(Disbelief::Wrong));
}

#[test]
fn what_is_changed_or_late_or_odd_is_not_believed() {
    let (secret, good) = (secret(1), signatures(&[secret(1)], "msg_1", NOW_S, BODY));
    let check = |id: &str, timestamp: &str, signatures: &str, body: &[u8], now_s: u64| {
        verify(&secret, &Signed { id, timestamp, signatures }, body, now_s)
    };
    let at = NOW_S.to_string();
    for now_s in [NOW_S - TOLERANCE_S, NOW_S + TOLERANCE_S] {
        assert_eq!(check("msg_1", &at, &good, BODY, now_s), Ok(()));
    }
    for now_s in [NOW_S - TOLERANCE_S - 1, NOW_S + TOLERANCE_S + 1, 0, u64::MAX] {
        assert_eq!(check("msg_1", &at, &good, BODY, now_s), Err(Disbelief::Late), "{now_s}");
    }
    assert_eq!(check("msg_2", &at, &good, BODY, NOW_S), Err(Disbelief::Wrong));
    assert_eq!(check("msg_1", &(NOW_S + 1).to_string(), &good, BODY, NOW_S), Err(Disbelief::Wrong));
    assert_eq!(check("msg_1", &format!("0{at}"), &good, BODY, NOW_S), Err(Disbelief::Wrong), "other bytes were signed");
    assert_eq!(check("msg_1", &at, &good, b"{}", NOW_S), Err(Disbelief::Wrong));
    for odd in ["", "v1,", "v1", "v1,!!!", "v2,AAAA", &good[3..], &good[..good.len() - 4], &format!("{good}AAAA")] {
        assert_eq!(check("msg_1", &at, odd, BODY, NOW_S), Err(Disbelief::Wrong), "{odd}");
    }
    assert_eq!(check("msg_1", &at, &format!("v1a,xx v1,AAAA {good}"), BODY, NOW_S), Ok(()), "a good one among others");
    let many = format!("{}{good}", "v1,AAAA ".repeat(100));
    assert_eq!(check("msg_1", &at, &many, BODY, NOW_S), Err(Disbelief::Wrong), "nobody has a hundred secrets");
    for bad in ["", "-1", "+1", "1.5", "1e9", " 1", "99999999999999999999"] {
        assert_eq!(check("msg_1", bad, &good, BODY, NOW_S), Err(Disbelief::Malformed), "{bad}");
    }
    for bad in ["", "msg 1", "msg\n1", &"m".repeat(ID_BYTES_MAX + 1)] {
        assert_eq!(check(bad, &at, &good, BODY, NOW_S), Err(Disbelief::Malformed), "{bad}");
    }
}

#[test]
fn secrets_are_long_enough_and_do_not_show_themselves() {
    let fresh = Secret::generate();
    assert!(fresh != Secret::generate());
    assert_eq!(format!("{:?}", Secret::parse(&fresh).expect("ours are good")), "(secret)");
    for bad in [
        "",
        "whsec_",
        "whsec_c2hvcnQ=",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_!!!",
        &format!("whsec_{}", "A".repeat(100)),
    ] {
        let error = Secret::parse(bad).expect_err(bad);
        assert!(error.starts_with("expected whsec_ and 24 to 64 random bytes"), "{error}");
    }
}

fn answer(status: u16, retry_after_s: Option<u64>) -> Outcome {
    let headers = axum::http::HeaderMap::new();
    Outcome::from(Ok(Answer { status, headers, retry_after_s, body: Vec::new(), is_cut: false }))
}

#[test]
fn attempts_are_made_for_a_day_each_a_little_early_or_late() {
    let failure = answer(500, None);
    for chance in [0, 1, 12_345_678_901, u64::MAX - 1, u64::MAX] {
        let (mut now_ms, mut attempt) = (1_000_000, 1);
        while let Verdict::Again(at) = judge(&failure, attempt, now_ms, chance) {
            let wait = OFFSETS_MS[attempt as usize] - OFFSETS_MS[attempt as usize - 1];
            assert!(
                (wait - wait / 10..=wait + wait / 10).contains(&(at - now_ms)),
                "attempt {attempt}: {}",
                at - now_ms
            );
            (now_ms, attempt) = (at, attempt + 1);
        }
        assert_eq!((judge(&failure, attempt, now_ms, chance), attempt), (Verdict::Dead, 10));
        assert!(now_ms - 1_000_000 > 21 * 3_600_000 && now_ms - 1_000_000 < 27 * 3_600_000);
    }
    assert_eq!(judge(&failure, 11, 0, 0), Verdict::Dead, "one that a crash had counted");
}

#[test]
fn an_answer_says_what_is_next() {
    for status in [200, 201, 204, 299] {
        assert_eq!(judge(&answer(status, None), 1, 0, 0), Verdict::Delivered);
    }
    for status in [100, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503] {
        let outcome = answer(status, None);
        assert!(matches!(judge(&outcome, 1, 0, 0), Verdict::Again(_)), "{status}");
        assert!(outcome.error.is_some_and(|error| error.contains(&status.to_string())), "{status}");
    }
    assert_eq!(judge(&answer(410, None), 1, 0, 0), Verdict::Gone);
    let failure = Outcome::from(Err(CallFailed { word: "dns", why: "ü".repeat(1_000) }));
    assert!(failure.error.as_ref().is_some_and(|error| error.len() < 400));
    assert!(matches!(judge(&failure, 1, 0, 0), Verdict::Again(_)));
}

#[test]
fn a_receiver_may_ask_for_a_longer_wait_but_not_for_ever() {
    let at = |asked| match judge(&answer(429, Some(asked)), 1, 0, 0) {
        Verdict::Again(at) => at,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(0), 4_500, "the schedule with its jitter");
    assert_eq!(at(3_600), 3_600_000);
    assert_eq!(at(u64::MAX), 6 * 3_600_000);
    assert_eq!(judge(&answer(429, Some(60)), 10, 0, 0), Verdict::Dead, "the last attempt is the last");
}

#[tokio::test]
async fn a_test_event_says_what_came_back_and_what_to_do() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for (answer, says) in [("200 OK", "It works"), ("404 x", "check the path"), ("308 x", "Redirects are not followed")]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        let receiver = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.expect("a connection");
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut buffer = [0; 4096];
                let count = tcp.read(&mut buffer).await.expect("it is sent");
                text += &String::from_utf8_lossy(&buffer[..count]);
            }
            let _ = tcp.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
            text
        });
        let said = cli::test(&url, None).await.unwrap_or_else(|error| error);
        assert!(said.contains(says), "{said}");
        let request = receiver.await.expect("it was called").to_ascii_lowercase();
        assert!(
            request.starts_with("post /hook http/1.1\r\n") && request.contains("webhook-signature: v1,"),
            "{request}"
        );
        assert!(request.contains(r#""type":"webhook.test""#), "{request}");
    }
    assert!(cli::test("http://127.0.0.1:1/", Some("short")).await.expect_err("no secret").contains("expected whsec_"));
}
