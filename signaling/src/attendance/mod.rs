//! Attendance: what the facts of a meeting say of who was there and for how long. Pure functions of the log.

mod open;
mod summary;

pub use open::{Open, OpenConnection, OpenMeeting};
pub use summary::{Attendee, Summary, Visit, summarize};
