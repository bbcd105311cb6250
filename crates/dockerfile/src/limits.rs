//! How much a Dockerfile may ask for. Docker names no limits; these are far above what people write and keep a hostile file
//! from costing more than a moment.

/// The longest Dockerfile, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// The most instructions in a Dockerfile.
pub const MAX_INSTRUCTIONS: usize = 10_000;
/// The longest result of one expansion, in bytes.
pub const MAX_EXPANSION: usize = 1 << 20;
/// How deep `${X:-${Y:-…}}` may nest.
pub const MAX_NESTING: usize = 32;
/// The work that one expansion may cost: bytes that are read, written and searched.
pub const MAX_EXPANSION_WORK: usize = 16 << 20;
/// The work that all expansions of a build may cost, in the same unit.
pub const MAX_BUILD_WORK: usize = 256 << 20;
/// What the variables of a stage may take, in bytes; the names and values of a process have about that much room.
pub const MAX_ENVIRONMENT: usize = 512 << 10;
/// The most stages in a Dockerfile.
pub const MAX_STAGES: usize = 500;
/// The most here-documents of one instruction.
pub const MAX_HEREDOCS: usize = 256;
/// The most patterns in an ignore file or in the `--exclude` flags of an instruction.
pub const MAX_PATTERNS: usize = 10_000;
/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 4096;
