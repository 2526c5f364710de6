//! Several encodings, one stream.
