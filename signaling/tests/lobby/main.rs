//! The lobby through `handle` and `poll`, in virtual time.
#![allow(clippy::disallowed_methods)]

mod chaos;
mod flow;
mod history;
mod ice;
mod joining;
mod limits;
mod media;
mod seats;
mod talking;
mod whip;
mod world;
