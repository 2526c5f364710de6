//! The command `lyceum-bench call` as scripts see it: exit codes, and the files that it writes. No server is needed for that.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

use std::path::PathBuf;
use std::process::{Command, Output};

fn call(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyceum-bench"));
    for name in ["JWT_SECRET", "LYCEUM_ADMIN_KEY", "LYCEUM__WEBHOOKS__SECRET"] {
        command.env_remove(name);
    }
    command.arg("call").args(arguments).output().expect("the binary starts")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_cannot_be_understood_is_said_before_anything_begins() {
    for (arguments, part) in [
        (&["--audio", "--assert", "lose<1%"][..], "no figure is called \"lose\"; there are join_p50, "),
        (&["--audio", "--assert", "join_p95<2%"], "a time such as 500ms or 2s"),
        (&["--audio", "--chaos", "burn@1s:1%"], "kill-socket@TIME:SHARE"),
        (&["--audio", "--impair", "loss=much"], "a share between 0% and 100%"),
        (&["--audio", "--shape", "/nowhere/shape.json"], "/nowhere/shape.json"),
        (&["--audio", "--participants", "1000000"], "1 to 20000 people"),
        (&["--audio", "--verify-attendance"], "--admin-key"),
        (&["--participants", "2"], "give --audio, --video or --screen"),
    ] {
        let output = call(arguments);
        let error = said(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn a_failed_run_has_exit_code_1_and_still_writes_its_files() {
    let file =
        |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("call-{}-{name}", std::process::id()));
    let (json, junit, html) = (file("run.json"), file("run.xml"), file("run.html"));
    let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
    let (json_path, junit_path, html_path) = (text(&json), text(&junit), text(&html));
    // Nobody listens on the discard port of loopback.
    let output = call(&[
        "--url",
        "http://127.0.0.1:9",
        "--audio",
        "--participants",
        "1",
        "--duration",
        "10ms",
        "--ramp",
        "10ms",
        "--assert",
        "joined=100%,loss<0.5%",
        "--json",
        &json_path,
        "--junit",
        &junit_path,
        "--report",
        &html_path,
    ]);
    let table = said(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}{}", said(&output.stderr));
    assert!(table.contains("assertion joined=100 % FAILED: joined is 0.000 %, off by 100.000 %"), "{table}");
    assert!(table.contains("could not join") && table.ends_with("FAILED\n"), "{table}");
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("it was written");
    let report: serde_json::Value = serde_json::from_str(&read(&json)).expect("JSON");
    assert_eq!((&report["people"], &report["assertions"][0]["passed"]), (&2.into(), &false.into()));
    // The run and one assertion failed; nothing was lost, as nothing was sent.
    assert!(read(&junit).contains("tests=\"3\" failures=\"2\""), "{}", read(&junit));
    assert!(read(&html).contains("joined=100 % FAILED"));
    for path in [json, junit, html] {
        std::fs::remove_file(path).expect("it is ours");
    }
}
