//! Build checks: what a Dockerfile should not do, though it builds.

mod files;
mod names;
mod rule;
mod style;
mod values;

pub use rule::Rule;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::Dockerfile;
use crate::pattern::Ignore;
use crate::position::Span;
use crate::scope::{BuildOptions, Platform};
use crate::syntax::Check;

/// The most warnings that are told.
const MAX_WARNINGS: usize = 200;

/// Says `Env` of an image's configuration, by the name in `FROM`.
pub type Environments<'a> = dyn Fn(&str) -> Option<Vec<String>> + 'a;

/// What a build is known to be when it is checked.
pub struct Options<'a> {
    /// What is asked of the build.
    pub build: BuildOptions,
    /// What is left out of the build context.
    pub ignore: Option<&'a Ignore>,
    /// What base images set; without it, nothing is said about variables in stages on that image, which may set them.
    pub environment: Option<&'a Environments<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            build: BuildOptions::new(Platform::linux("amd64")),
            ignore: None,
            environment: None,
        }
    }
}

/// Checks a Dockerfile, in the order of its lines, as its `# check=` asks.
pub fn check(dockerfile: &Dockerfile, options: &Options<'_>) -> Vec<Diagnostic> {
    let mut findings = Findings {
        check: &dockerfile.directives.check,
        warnings: Vec::new(),
    };
    style::check(dockerfile, &mut findings);
    names::check(dockerfile, options, &mut findings);
    values::check(dockerfile, options, &mut findings);
    if let Some(ignore) = options.ignore {
        files::check(dockerfile, ignore, &mut findings);
    }
    let mut warnings = findings.warnings;
    warnings.sort_by_key(|warning| (warning.span.start, warning.rule));
    warnings
}

/// Warnings so far.
struct Findings<'a> {
    check: &'a Check,
    warnings: Vec<Diagnostic>,
}

impl Findings<'_> {
    fn add(&mut self, rule: Rule, span: Span, message: impl AsRef<str>) {
        self.push(Diagnostic::warning(rule, span, message));
    }

    fn push(&mut self, warning: Diagnostic) {
        let is_wanted = warning.rule.is_some_and(|rule| self.wants(rule));
        if is_wanted && !self.is_full() {
            self.warnings.push(warning);
        }
    }

    fn is_full(&self) -> bool {
        self.warnings.len() >= MAX_WARNINGS
    }

    fn wants(&self, rule: Rule) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(rule.name()));
        match rule.is_experimental() {
            true => self.check.experimental_all || named(&self.check.experimental),
            false => !self.check.skip_all && !named(&self.check.skip),
        }
    }
}
