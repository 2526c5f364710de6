//! Attendance: what the facts of a meeting say of who was there and for how long. Pure functions of the log.

mod check;
mod erase;
mod open;
mod span;
mod summary;
mod tally;

pub use check::check;
pub use erase::{erase, erase_log};
pub use open::{Open, OpenConnection, OpenMeeting, REMOVED_MAX};
pub use summary::{Attendee, Summary, Visit, summarize};
