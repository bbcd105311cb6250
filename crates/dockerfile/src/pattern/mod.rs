//! Patterns over paths: `.dockerignore`, and the wildcards of `COPY` and `ADD`.

mod glob;
mod ignore;
mod path;
mod wildcard;

pub use ignore::{Ignore, IgnoreError, Walk};
pub use path::clean;
pub use wildcard::{PathPattern, PatternError, Wildcard, has_wildcard, split_pivot};
