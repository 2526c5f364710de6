//! The lobby through `handle` and `poll`, in virtual time.
#![allow(clippy::disallowed_methods)]

mod authority;
mod chaos;
mod flow;
mod history;
mod ice;
mod identity;
mod joining;
mod limits;
mod media;
mod moderation;
mod rules;
mod seats;
mod spread;
mod talking;
mod waiting;
mod whip;
mod wire;
mod world;
