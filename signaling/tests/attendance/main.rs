//! Attendance: what is counted is what was true.
// Histories run side by side on threads.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod crash_points;
mod facts;
mod golden;
mod histories;
mod random_logs;
mod school;
mod script;
mod summaries;
mod truth;
