//! Fuzz targets for every parser of strangers' bytes. The targets need neither libfuzzer nor this crate: `bench/tests/fuzz_corpus.rs`
//! includes them and replays their corpora with the ordinary tests.

pub mod targets;

// The clients are bench's, by path: its load generator (tokio, webrtc) would only make an instrumented build long.
#[path = "../../bench/src/hall.rs"]
pub mod hall;
#[path = "../../bench/src/media.rs"]
pub mod media;
#[path = "../../bench/src/peer.rs"]
pub mod peer;
