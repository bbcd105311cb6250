//! Calls of the docker CLI, and what they answered: recorded from Docker's engine once, compared with hull's answers ever after.
//!
//! Three texts belong together: the calls ([`read_calls`]), Docker's answers to them ([`Transcript`]), and the answers in which hull
//! differs on purpose, each with its reason, in the same form.

mod answers;
mod calls;
mod compare;
mod normal;
mod transcript;

pub use answers::{Answer, answers_of};
pub use calls::{Section, read_calls};
pub use compare::Expectation;
pub use transcript::Transcript;
