//! Every file of the fuzz corpora, every crash that was ever found, and some seeded mutants of them, through the fuzz targets.
//! `cargo test -p lyceum-bench --test fuzz_corpus -- --ignored` writes the seeds anew.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(unreachable_pub, dead_code)]
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

// What the targets expect in their crate.
use bench::{hall, media, peer};
use targets::mutate::Mutator;
use targets::seeds::seeds;
use targets::{TARGETS, Target};

const SEED: u64 = 20_260_401;
/// The committed corpus is for reading and for each test run; long runs keep theirs elsewhere.
const CORPUS_FILES_MAX: usize = 30;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target)
}

/// Files by name; none where there is no such folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let path = |entry: std::io::Result<fs::DirEntry>| entry.expect("a folder that can be read").path();
    entries.map(path).map(|path| (path.clone(), fs::read(&path).expect("a file that can be read"))).collect()
}

fn replay(target: &Target) {
    let corpus = files(&folder("corpus", target.name));
    assert!((1..=CORPUS_FILES_MAX).contains(&corpus.len()), "{}: {} files", target.name, corpus.len());
    for (path, bytes) in corpus.iter().chain(&files(&folder("crashes", target.name))) {
        assert!(catch_unwind(|| (target.run)(bytes)).is_ok(), "{} fails", path.display());
    }
    let corpus: Vec<Vec<u8>> = corpus.into_values().collect();
    let mutants = std::env::var("FUZZ_MUTANTS").ok().and_then(|it| it.parse().ok()).unwrap_or(target.mutants);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(SEED);
    let mut mutator = Mutator::new(&corpus, seed);
    for number in 0..mutants {
        let mutant = mutator.mutant();
        if catch_unwind(|| (target.run)(&mutant)).is_err() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{seed}-{number}", target.name));
            fs::write(&kept, &mutant).expect("the target folder can be written to");
            panic!("mutant {number} of {} fails: see {}, and keep it in fuzz/crashes", target.name, kept.display());
        }
    }
}

macro_rules! replays {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { replay(TARGETS.iter().find(|it| it.name == stringify!($name)).expect("a target")); })*

        #[test]
        fn every_target_is_replayed_and_has_a_binary() {
            assert_eq!(TARGETS.each_ref().map(|it| it.name), [$(stringify!($name)),*]);
            let fuzzers = files(&folder("fuzz_targets", ""));
            let names: Vec<_> = fuzzers.keys().filter_map(|path| path.file_stem()?.to_str()).collect();
            let mut targets = TARGETS.each_ref().map(|it| it.name);
            targets.sort_unstable();
            assert_eq!(names, targets);
        }
    };
}
replays!(stun, rtp, rtcp, keyframe, payload, descriptor, sdp, srtp, datagram, signaling, twcc, sctp, turn, frames);

fn seed(target: &str, name: &str) -> Vec<u8> {
    seeds().into_iter().find(|it| (it.target, it.name.as_str()) == (target, name)).expect("a seed of that name").bytes
}

#[test]
fn the_seeds_of_sdp_get_deep() {
    let said = |name: &str| {
        let said = targets::sdp::play(&seed("sdp", name));
        (said.offers, said.answers, said.refusals)
    };
    assert_eq!(said("answer"), (1, 0, 0), "the answer is one to our offer");
    let (_, answers, refusals) = said("offer_twice");
    assert_eq!((answers, refusals), (2, 0));
    assert_eq!(said("chromium_simulcast_offer").2, 0);
    assert_eq!(said("firefox_max_bundle_offer").2, 0);
}

/// A corpus that bounces off the first check would find nothing, and nobody would notice.
#[test]
fn the_seeds_of_datagram_get_deep() {
    let counted = |name: &str| targets::datagram::play(&seed("datagram", name));
    let (idle, deep) = (targets::datagram::play(&[]), counted("media_and_feedback"));
    assert!(deep.rtp_in >= idle.rtp_in + 3 && deep.rtp_out >= idle.rtp_out + 3, "{deep:?}");
    assert!(deep.rtx_in > 0 && deep.nack_in > 0 && deep.keyframe_requests_in > idle.keyframe_requests_in, "{deep:?}");
    let forged = counted("forged");
    assert_eq!((forged.rtp_in, forged.dtls_connected), (idle.rtp_in, idle.dtls_connected));
    assert!(forged.drops.iter().sum::<u64>() >= 10, "{forged:?}");
}

#[test]
fn the_seeds_of_sctp_get_deep() {
    let counted = |name: &str| targets::sctp::play(&seed("sctp", name));
    for (name, messages) in [("talk", 1), ("gaps", 2), ("reset", 1)] {
        let (came, went) = counted(name);
        assert!(came == messages && went >= 4, "{name}: {came} messages came, {went} packets went");
    }
    assert!(counted("lossy").1 > 5);
}

#[test]
fn the_seeds_of_turn_get_deep() {
    let seen = |name: &str| targets::turn::play(&seed("turn", name));
    let (media, relay) = (seen("media"), seen("listed_peer"));
    assert!(media.allocated == 2 && media.media >= 3 && media.to_client >= 3 && media.relayed == 0, "{media:?}");
    assert!(relay.allocated == 1 && relay.relayed >= 1 && relay.to_client >= 1, "{relay:?}");
    let strangers = seen("strangers");
    assert_eq!((strangers.allocated, strangers.media, strangers.relayed), (0, 0, 0));
}

#[test]
#[ignore = "writes into the repository"]
fn write_seeds() {
    for seed in seeds() {
        let folder = folder("corpus", seed.target);
        fs::create_dir_all(&folder).expect("the repository can be written to");
        fs::write(folder.join(seed.name), seed.bytes).expect("the repository can be written to");
    }
}

#[test]
fn the_corpora_hold_the_seeds() {
    for seed in seeds() {
        let path = folder("corpus", seed.target).join(&seed.name);
        assert!(
            fs::read(&path).is_ok_and(|bytes| bytes == seed.bytes),
            "{} is not what it was made as",
            path.display()
        );
    }
}
