//! The journal on a disk that fails, forgets and fills up at any step.

mod plate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use signaling::FactId;
use tokio::sync::mpsc;

use self::plate::Plate;
use super::disk::Disk;
use super::log::name;
use super::*;
use crate::control::Input;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Two groups fill a segment.
const SHORT: u64 = 600;

fn fact(number: u64) -> Fact {
    Fact::Aborted { session: "math".into(), user: format!("u{number}").into(), at: number }
}

fn entry(number: u64) -> Entry {
    Entry { mono_ms: number, wall_ms: number, fact: fact(number) }
}

/// All records that a reader finds, which must be the first facts in order, each once.
fn records(shelf: &Arc<Shelf>, from: u64) -> u64 {
    let mut reader = Reader::new(shelf.clone(), from);
    loop {
        let before = reader.next();
        let records = reader.read(3).expect("what is committed can be read");
        for (record, index) in records.iter().zip(before..) {
            assert_eq!((record.index, &record.fact), (index, &fact(index)));
        }
        if records.is_empty() {
            return reader.next() - 1;
        }
    }
}

/// Commits facts in groups of 1, 2, 3, 1, 2, 3…, and says how many were acknowledged before the disk failed.
fn write(disk: &Arc<Plate>, groups: u64) -> u64 {
    let Ok(mut log) = Log::open(disk.clone(), SHORT, 0) else { return 0 };
    let mut acknowledged = log.shelf.committed();
    for group in 0..groups {
        let entries: Vec<Entry> = (0..=group % 3).map(|i| entry(acknowledged + 1 + i)).collect();
        if log.commit(&entries).is_err() {
            break;
        }
        acknowledged += entries.len() as u64;
    }
    acknowledged
}

#[test]
fn whatever_the_step_at_which_it_dies_nothing_acknowledged_is_lost() {
    let whole = Arc::new(Plate::default());
    let facts = write(&whole, 12);
    assert_eq!(facts, 24);
    assert!(whole.names().expect("names").len() > 3, "it takes several segments");
    let steps = whole.steps();
    assert!(steps > 40, "{steps} steps");
    for step in 1..=steps {
        for seed in 0..8 {
            let disk = Arc::new(Plate::failing_at(step, seed));
            let acknowledged = write(&disk, 12);
            // The process dies, and half of the times the machine too.
            disk.restart(seed % 2 == 0);
            let log = Log::open(disk.clone(), SHORT, 0).unwrap_or_else(|e| panic!("step {step}, seed {seed}: {e:?}"));
            let there = records(&log.shelf, 1);
            assert!(there >= acknowledged, "step {step}, seed {seed}: {acknowledged} acknowledged, {there} there");
            assert_eq!(there, log.shelf.committed());
            drop(log);
            // It dies again at once, and goes on.
            disk.restart(true);
            let more = write(&disk, 5);
            assert_eq!(more, there + 9, "step {step}, seed {seed}");
            disk.restart(true);
            let log = Log::open(disk.clone(), SHORT, 0).expect("a whole journal");
            assert_eq!(records(&log.shelf, 1), more, "step {step}, seed {seed}");
        }
    }
}

#[test]
fn a_write_that_was_torn_at_any_byte_is_cut() {
    let disk = Arc::new(Plate::default());
    let mut log = Log::open(disk.clone(), u64::MAX, 0).expect("an empty disk");
    log.commit(&[entry(1), entry(2)]).expect("a good disk");
    let kept = disk.bytes(&name(1)).len();
    log.commit(&[entry(3), entry(4)]).expect("a good disk");
    let whole = disk.bytes(&name(1));
    for length in kept..whole.len() {
        let disk = Arc::new(Plate::with(&name(1), &whole[..length]));
        let log = Log::open(disk, u64::MAX, 0).unwrap_or_else(|e| panic!("{length} bytes: {e:?}"));
        let there = records(&log.shelf, 1);
        let ends = whole[..length].iter().skip(kept).filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(there, 2 + ends, "{length} bytes");
        assert_eq!(log.boot, 2);
    }
}

#[test]
fn damage_to_what_was_acknowledged_is_never_passed_over() {
    let disk = Arc::new(Plate::default());
    let mut log = Log::open(disk.clone(), u64::MAX, 0).expect("an empty disk");
    log.commit(&[entry(1), entry(2)]).expect("a good disk");
    let relied_on = disk.bytes(&name(1)).len();
    log.commit(&[entry(3)]).expect("a good disk");
    let whole = disk.bytes(&name(1));
    for at in 0..relied_on {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let disk = Arc::new(Plate::with(&name(1), &bytes));
        match Log::open(disk, u64::MAX, 0).map(|_| ()) {
            Err(error @ Unreadable::Damaged { .. }) => {
                let said = error.to_string();
                assert!(said.contains("journal/00000000000000000001.journal") && said.contains("backup"), "{said}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn a_record_of_another_version_is_not_taken_for_a_torn_write() {
    let disk = Arc::new(Plate::default());
    drop(Log::open(disk.clone(), u64::MAX, 0).expect("an empty disk"));
    let mut bytes = disk.bytes(&name(1));
    let synced = bytes.len() as u64;
    line::encode(&mut bytes, synced, &serde_json::json!({ "index": 1, "fact": { "kind": "telepathy" } }));
    let disk = Arc::new(Plate::with(&name(1), &bytes));
    let error = Log::open(disk, u64::MAX, 0).map(|_| ()).expect_err("it cannot be understood");
    assert!(matches!(&error, Unreadable::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("another version"));
}

#[test]
fn segments_are_deleted_when_the_store_has_them_but_for_the_newest() {
    let disk = Arc::new(Plate::default());
    let facts = write(&disk, 12);
    let log = Log::open(disk.clone(), SHORT, 0).expect("a whole journal");
    let segments = || disk.names().expect("names").iter().filter(|name| name.ends_with(".journal")).count();
    let (all, bytes) = (segments(), log.shelf.bytes());
    log.shelf.forget(facts / 2).expect("a good disk");
    let some = segments();
    assert!(some < all && some > 1, "{some} of {all}");
    assert!(log.shelf.bytes() < bytes);
    assert_eq!(records(&log.shelf, facts / 2 + 1), facts);
    let mut reader = Reader::new(log.shelf.clone(), 1);
    assert!((1..=facts / 2).contains(&reader.skip_missing()));
    assert!(!reader.read(1).expect("the oldest that is there").is_empty());
    log.shelf.forget(facts).expect("a good disk");
    assert_eq!(segments(), 1);
}

#[test]
fn a_long_checkpoint_does_not_make_each_commit_a_segment() {
    let disk = Arc::new(Plate::default());
    let open = |now_ms| Log::open(disk.clone(), SHORT, now_ms).expect("a good disk");
    // Each boot makes it longer.
    (0..60).for_each(|n| drop(open(NAMED_FROM_MS + n)));
    let mut log = open(NAMED_FROM_MS + 60);
    assert!(log.shelf.bytes() > SHORT, "{} bytes", log.shelf.bytes());
    for number in 1..=2 {
        log.commit(&[entry(number)]).expect("a good disk");
    }
    assert_eq!((log.shelf.oldest(), log.shelf.find(2)), (Some(1), Some((1, None))));
}

/// What control is told next, in time.
fn told(inbox: &mut mpsc::Receiver<Input>) -> Input {
    let start = Instant::now();
    loop {
        match inbox.try_recv() {
            Ok(input) => return input,
            Err(_) => assert!(start.elapsed() < PATIENCE, "control is told nothing"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn while_the_disk_is_full_nobody_new_gets_in_and_nothing_is_lost() {
    let disk = Arc::new(Plate::default());
    let log = Log::open(disk.clone(), SHORT, 0).expect("an empty disk");
    let shelf = log.shelf.clone();
    let (inbox, mut inputs) = mpsc::channel(16);
    let (ended, _broken) = mpsc::unbounded_channel();
    let (facts, status) = thread::start(log, u64::MAX, inbox, ended).expect("a thread");
    assert!(facts.write(FactId(1), fact(1), clock::now()).is_ok());
    assert!(matches!(told(&mut inputs), Input::Committed(FactId(1))));
    disk.fill(true);
    assert!(facts.write(FactId(2), fact(2), clock::now()).is_ok());
    assert!(matches!(told(&mut inputs), Input::Recording { possible: false }));
    assert_eq!(records(&shelf, 1), 1);
    assert!(facts.write(FactId(3), fact(3), clock::now()).is_ok());
    disk.fill(false);
    let mut last = told(&mut inputs);
    while !matches!(last, Input::Committed(FactId(3))) {
        assert!(matches!(last, Input::Committed(FactId(2)) | Input::Recording { possible: true }));
        last = told(&mut inputs);
    }
    assert_eq!(records(&shelf, 1), 3);
    assert!(status.failures.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[test]
fn beyond_its_limit_it_refuses_newcomers_until_the_store_has_caught_up() {
    let log = Log::open(Arc::new(Plate::default()), SHORT, 0).expect("an empty disk");
    let shelf = log.shelf.clone();
    let (inbox, mut inputs) = mpsc::channel(1_024);
    let (ended, _broken) = mpsc::unbounded_channel();
    let (facts, status) = thread::start(log, 4 * SHORT, inbox, ended).expect("a thread");
    let mut sent = 0;
    loop {
        sent += 1;
        assert!(sent < 1_000 && facts.write(FactId(sent), fact(sent), clock::now()).is_ok());
        match told(&mut inputs) {
            Input::Recording { possible: false } => break,
            Input::Committed(FactId(id)) => assert!(id <= sent),
            _ => panic!("control is told something else"),
        }
    }
    assert!(status.refusing.load(std::sync::atomic::Ordering::Relaxed));
    shelf.forget(shelf.committed()).expect("a good disk");
    while !matches!(told(&mut inputs), Input::Recording { possible: true }) {}
    assert_eq!(records(&shelf, shelf.oldest().expect("the newest segment")), sent);
}

#[test]
fn a_full_inbox_of_control_delays_what_it_is_told_and_nothing_else() {
    let log = Log::open(Arc::new(Plate::default()), u64::MAX, 0).expect("an empty disk");
    let shelf = log.shelf.clone();
    let (inbox, mut inputs) = mpsc::channel(1);
    let (ended, _broken) = mpsc::unbounded_channel();
    let (facts, _status) = thread::start(log, u64::MAX, inbox.clone(), ended).expect("a thread");
    assert!(inbox.try_send(Input::Recording { possible: true }).is_ok(), "it is full now");
    for id in 1..=100 {
        assert!(facts.write(FactId(id), fact(id), clock::now()).is_ok());
    }
    let start = Instant::now();
    while shelf.committed() < 100 {
        assert!(start.elapsed() < PATIENCE, "the journal waits for control");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(told(&mut inputs), Input::Recording { possible: true }));
    while !matches!(told(&mut inputs), Input::Committed(FactId(100))) {}
}

#[test]
fn a_directory_has_one_server_one_node_and_counted_boots() {
    let dir = std::env::temp_dir().join(format!("lyceum-journal-{}-{:x}", std::process::id(), rand::random::<u32>()));
    let start = || {
        let (inbox, _inputs) = mpsc::channel(16);
        let (ended, _broken) = mpsc::unbounded_channel();
        Journal::start(&dir, u64::MAX, inbox, ended).map(|(journal, _)| journal)
    };
    let first = start().unwrap_or_else(|failure| panic!("{failure}"));
    let refused = start().map(|_| ()).expect_err("it is in use").to_string();
    assert!(refused.contains("in use by another Lyceum") && refused.contains("LYCEUM__STORE__DIR"), "{refused}");
    let (node, boot) = (first.node.clone(), first.boot);
    drop(first);
    let second = start().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(second.node, node);
    assert!(second.boot > boot && *second.boots == [boot, second.boot], "{boot} and {:?}", second.boots);
    assert!([0, boot, second.boot].into_iter().all(|known| second.knows(known)));
    assert!(
        [1, boot - 1, boot + 1, second.boot + 1].into_iter().all(|other| other == second.boot || !second.knows(other))
    );
    let counted = Journal { boots: [5, second.boot].into(), ..second };
    assert!([1, 5, counted.boot].into_iter().all(|known| counted.knows(known)) && !counted.knows(6));
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn what_ran_before_an_older_version_did_is_known_still() {
    let dir = std::env::temp_dir().join(format!("lyceum-journal-{}-{:x}", std::process::id(), rand::random::<u32>()));
    let start = || {
        let (inbox, _inputs) = mpsc::channel(16);
        let (ended, _broken) = mpsc::unbounded_channel();
        Journal::start(&dir, u64::MAX, inbox, ended).map(|(journal, _)| journal).unwrap_or_else(|why| panic!("{why}"))
    };
    let new = start().boot;
    let old = new + 1;
    let mut checkpoint = Vec::new();
    let body =
        serde_json::json!({ "format": 1, "next": 1, "boot": old, "open": signaling::attendance::Open::default() });
    line::encode(&mut checkpoint, 0, &body);
    std::fs::write(dir.join("journal").join(name(1)), &checkpoint).expect("a writable directory");
    let next = start();
    let boot = next.boot;
    let knows = |journal: &Journal| [0, 5, new, old, boot].into_iter().all(|boot| journal.knows(boot));
    assert!(knows(&next) && !next.knows(boot + 1), "{:?}", next.boots);
    drop(next);
    let last = start();
    assert!(knows(&last) && !last.knows(last.boot + 1) && *last.boots == [0, old, boot, last.boot], "{:?}", last.boots);
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_its_setting() {
    let (inbox, _inputs) = mpsc::channel(16);
    let (ended, _broken) = mpsc::unbounded_channel();
    let said = Journal::start(Path::new("/proc/nowhere"), u64::MAX, inbox, ended).map(|_| ()).expect_err("not there");
    let said = said.to_string();
    assert!(said.contains("/proc/nowhere") && said.contains("LYCEUM__STORE__DIR"), "{said}");
}
