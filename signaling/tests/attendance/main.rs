//! Attendance: what is counted is what was true.
#![allow(clippy::disallowed_methods)]

mod crash_points;
mod facts;
mod golden;
mod histories;
mod random_logs;
mod school;
mod script;
mod summaries;
mod truth;
