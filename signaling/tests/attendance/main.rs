//! Attendance: what is counted is what was true.
#![allow(clippy::disallowed_methods)]

mod facts;
mod random_logs;
mod summaries;
