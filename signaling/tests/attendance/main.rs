//! Attendance: what is counted is what was true.
#![allow(clippy::disallowed_methods)]

mod facts;
mod histories;
mod random_logs;
mod school;
mod script;
mod summaries;
mod truth;
