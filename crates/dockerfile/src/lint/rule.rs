//! The checks by name.

/// A build check, one of Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Stage names should be lowercase.
    StageNameCasing,
    /// `AS` should match the case of `FROM`.
    FromAsCasing,
    /// No empty lines between the lines of an instruction.
    NoEmptyContinuation,
    /// All keywords should use the same case.
    ConsistentInstructionCasing,
    /// Stage names should be unique.
    DuplicateStageName,
    /// `scratch` and `context` are no names of stages.
    ReservedStageName,
    /// `CMD` and `ENTRYPOINT` should be JSON arrays.
    JsonArgsRecommended,
    /// `MAINTAINER` is a label today.
    MaintainerDeprecated,
    /// `FROM` should use declared arguments.
    UndefinedArgInFrom,
    /// Variables should be defined before their use.
    UndefinedVar,
    /// A relative `WORKDIR` depends on the base image.
    WorkdirRelativePath,
    /// Only the last one of these counts.
    MultipleInstructionsDisallowed,
    /// `ENV name value`
    LegacyKeyValueFormat,
    /// `--platform=$TARGETPLATFORM` is the default.
    RedundantTargetPlatform,
    /// Secrets stay in an image's history.
    SecretsUsedInArgOrEnv,
    /// An argument without a value makes no image name.
    InvalidDefaultArgInFrom,
    /// `--platform` should not be constant.
    FromPlatformFlagConstDisallowed,
    /// A source is left out of the build context.
    CopyIgnoredFile,
    /// A comment above `FROM` or `ARG` should describe it.
    InvalidDefinitionDescription,
    /// A protocol of `EXPOSE` should be lowercase.
    ExposeProtoCasing,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 20] = [
        Rule::StageNameCasing,
        Rule::FromAsCasing,
        Rule::NoEmptyContinuation,
        Rule::ConsistentInstructionCasing,
        Rule::DuplicateStageName,
        Rule::ReservedStageName,
        Rule::JsonArgsRecommended,
        Rule::MaintainerDeprecated,
        Rule::UndefinedArgInFrom,
        Rule::UndefinedVar,
        Rule::WorkdirRelativePath,
        Rule::MultipleInstructionsDisallowed,
        Rule::LegacyKeyValueFormat,
        Rule::RedundantTargetPlatform,
        Rule::SecretsUsedInArgOrEnv,
        Rule::InvalidDefaultArgInFrom,
        Rule::FromPlatformFlagConstDisallowed,
        Rule::CopyIgnoredFile,
        Rule::InvalidDefinitionDescription,
        Rule::ExposeProtoCasing,
    ];

    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        self.text().0
    }

    /// What it asks for.
    pub fn description(self) -> &'static str {
        self.text().2
    }

    /// The page about it.
    pub fn url(self) -> String {
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.text().1)
    }

    /// Whether it is only checked when a Dockerfile asks for it (`# check=experimental=…`).
    pub fn is_experimental(self) -> bool {
        matches!(self, Rule::CopyIgnoredFile | Rule::InvalidDefinitionDescription)
    }

    /// Its name, the last part of its address, and what it asks for.
    fn text(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Rule::StageNameCasing => (
                "StageNameCasing",
                "stage-name-casing",
                "Stage names should be lowercase",
            ),
            Rule::FromAsCasing => (
                "FromAsCasing",
                "from-as-casing",
                "The 'as' keyword should match the case of the 'from' keyword",
            ),
            Rule::NoEmptyContinuation => (
                "NoEmptyContinuation",
                "no-empty-continuation",
                "Empty continuation lines will become errors in a future release",
            ),
            Rule::ConsistentInstructionCasing => (
                "ConsistentInstructionCasing",
                "consistent-instruction-casing",
                "All commands within the Dockerfile should use the same casing (either upper or lower)",
            ),
            Rule::DuplicateStageName => (
                "DuplicateStageName",
                "duplicate-stage-name",
                "Stage names should be unique",
            ),
            Rule::ReservedStageName => (
                "ReservedStageName",
                "reserved-stage-name",
                "Reserved words should not be used as stage names",
            ),
            Rule::JsonArgsRecommended => (
                "JSONArgsRecommended",
                "json-args-recommended",
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
            ),
            Rule::MaintainerDeprecated => (
                "MaintainerDeprecated",
                "maintainer-deprecated",
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
            ),
            Rule::UndefinedArgInFrom => (
                "UndefinedArgInFrom",
                "undefined-arg-in-from",
                "FROM command must use declared ARGs",
            ),
            Rule::UndefinedVar => (
                "UndefinedVar",
                "undefined-var",
                "Variables should be defined before their use",
            ),
            Rule::WorkdirRelativePath => (
                "WorkdirRelativePath",
                "workdir-relative-path",
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if \
                 the base image changes",
            ),
            Rule::MultipleInstructionsDisallowed => (
                "MultipleInstructionsDisallowed",
                "multiple-instructions-disallowed",
                "Multiple instructions of the same type should not be used in the same stage",
            ),
            Rule::LegacyKeyValueFormat => (
                "LegacyKeyValueFormat",
                "legacy-key-value-format",
                "Legacy key/value format with whitespace separator should not be used",
            ),
            Rule::RedundantTargetPlatform => (
                "RedundantTargetPlatform",
                "redundant-target-platform",
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ),
            Rule::SecretsUsedInArgOrEnv => (
                "SecretsUsedInArgOrEnv",
                "secrets-used-in-arg-or-env",
                "Sensitive data should not be used in the ARG or ENV commands",
            ),
            Rule::InvalidDefaultArgInFrom => (
                "InvalidDefaultArgInFrom",
                "invalid-default-arg-in-from",
                "Default value for global ARG results in an empty or invalid base image name",
            ),
            Rule::FromPlatformFlagConstDisallowed => (
                "FromPlatformFlagConstDisallowed",
                "from-platform-flag-const-disallowed",
                "FROM --platform flag should not use a constant value",
            ),
            Rule::CopyIgnoredFile => (
                "CopyIgnoredFile",
                "copy-ignored-file",
                "Attempting to Copy file that is excluded by .dockerignore",
            ),
            Rule::InvalidDefinitionDescription => (
                "InvalidDefinitionDescription",
                "invalid-definition-description",
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this \
                 is not intended to be a description comment, add an empty line or comment between the instruction and the \
                 comment.",
            ),
            Rule::ExposeProtoCasing => (
                "ExposeProtoCasing",
                "expose-proto-casing",
                "Protocol in EXPOSE instruction should be lowercase",
            ),
        }
    }
}
