//! Docker's way to write things for people.

mod duration;
mod json;
mod list;
mod size;
mod table;
mod text;

pub(crate) use duration::{ago, local_time, local_time_rfc3339};
pub(crate) use json::{indented, indented_by};
pub(crate) use list::{ListFormat, Row};
pub(crate) use size::{binary_size, decimal_size, parse_memory};
pub(crate) use table::Table;
pub(crate) use text::{ellipsis, go_quote, short_id};
