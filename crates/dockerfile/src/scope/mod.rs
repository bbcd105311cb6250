//! Which variables an instruction sees, and what its words become.

mod arguments;
mod budget;
mod expand;
mod global;
mod platform;
mod predefined;
mod stage;
mod variables;

pub use expand::{ExpandedAdd, ExpandedCopy, ExpandedFiles, ExpandedSource};
pub use global::{BuildOptions, GlobalScope};
pub use platform::{Platform, PlatformError};
pub use stage::{DEFAULT_PATH, Expanded, RunEnvironment, ScopeError, StageScope, UndefinedVariable};
pub use variables::Variables;

pub(crate) use predefined::{is_builder_argument, is_proxy};
