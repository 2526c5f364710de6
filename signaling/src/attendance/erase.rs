//! Forgetting a person while the minutes stay.

use std::sync::Arc;

use crate::attendance::summary::{Attendee, Summary, in_order, summarize};
use crate::fact::Fact;

/// A summary that no longer says who `user` was: the id and the name are replaced by a pseudonym that says nothing beyond this
/// meeting, and the version is one higher. One in which that user is not stays as it is.
pub fn erase(mut summary: Summary, user: &str) -> Summary {
    let Some(pseudonym) = pseudonym(&summary.participants, user) else {
        return summary;
    };
    for person in summary.participants.iter_mut().filter(|p| &*p.user_id == user) {
        person.user_id = pseudonym.clone();
        person.user_name = pseudonym.clone();
    }
    in_order(&mut summary.participants);
    summary.version = summary.version.saturating_add(1);
    summary
}

/// The same of a meeting's log: its summary is then what [`erase`] makes of the former one, but for the version.
pub fn erase_log(log: &mut [Fact], user: &str) {
    let Some(pseudonym) = pseudonym(&summarize(log, 0).participants, user) else {
        return;
    };
    let mut own = std::collections::BTreeSet::new();
    for fact in log {
        match fact {
            Fact::Joined { connection, user: who, name, .. } if &**who == user => {
                own.insert(connection.clone());
                *who = pseudonym.clone();
                *name = pseudonym.clone();
            }
            Fact::Changed { connection, name, .. } if own.contains(connection) => *name = pseudonym.clone(),
            Fact::Chat { user: who, name, .. } if &**who == user => {
                *who = pseudonym.clone();
                *name = pseudonym.clone();
            }
            Fact::Promoted { user: who, .. } if &**who == user => *who = pseudonym.clone(),
            Fact::Removed { user: who, token, .. } if &**who == user => {
                *who = pseudonym.clone();
                *token = None;
            }
            _ => {}
        }
    }
}

/// What stands for a user: `erased_` and its place among the people, or the next number that nobody is called.
fn pseudonym(people: &[Attendee], user: &str) -> Option<Arc<str>> {
    let place = people.iter().position(|p| &*p.user_id == user)?;
    let names = (place + 1..).map(|n| format!("erased_{n}"));
    names.into_iter().find(|name| people.iter().all(|p| &*p.user_id != name)).map(Arc::from)
}
