//! The ways to bring a microVM up: from a template where there is one, else by booting its kernel, and that a second time
//! when it hangs.

use std::time::Duration;

use sandbox::{Clock, SandboxError, SandboxSpec, Template, Templates};

use crate::EngineError;

/// How long an agent may take to come up from a template.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take when its kernel is booted. A host that starts many microVMs on few CPUs is slow, not broken.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const SECOND_BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How one microVM is brought up.
pub(crate) struct Boot<'a> {
    templates: &'a Templates,
    spec: SandboxSpec,
    clock: Clock,
    way: Way,
}

enum Way {
    Restore(Template),
    Boot,
    BootAgain,
}

impl<'a> Boot<'a> {
    /// The best way for `spec`, whose steps `clock` tells.
    pub(crate) fn new(templates: &'a Templates, spec: SandboxSpec, clock: Clock) -> Self {
        let way = templates.find(&spec).map_or(Way::Boot, Way::Restore);
        Boot {
            templates,
            spec,
            clock,
            way,
        }
    }

    /// What is to be started now.
    pub(crate) fn spec(&self) -> SandboxSpec {
        let (boot_timeout, template) = match &self.way {
            Way::Restore(template) => (RESTORE_TIMEOUT, Some(template.clone())),
            Way::Boot => (BOOT_TIMEOUT, None),
            Way::BootAgain => (SECOND_BOOT_TIMEOUT, None),
        };
        SandboxSpec {
            boot_timeout,
            template,
            ..self.spec.clone()
        }
    }

    /// Whether there is another way now that this one failed.
    pub(crate) fn goes_on_after(&mut self, error: &EngineError) -> bool {
        let timeline = self.clock.timeline();
        // Once the agent was there, a failure is the container's own.
        if timeline.ready.is_some() {
            return false;
        }
        let id = &self.spec.id;
        match &self.way {
            Way::Restore(template) => {
                tracing::warn!(id, %error, "a template does not serve; the kernel is booted");
                // Where no VMM was spawned, the template had no part in it.
                if timeline.spawned.is_some() {
                    self.templates.discard(template);
                }
                self.way = Way::Boot;
                true
            }
            Way::Boot if is_silence(error) => {
                tracing::warn!(id, %error, "a guest hangs; its kernel is booted once more");
                self.way = Way::BootAgain;
                true
            }
            Way::Boot | Way::BootAgain => false,
        }
    }

    /// Whether it goes on from a template.
    pub(crate) fn is_restored(&self) -> bool {
        matches!(self.way, Way::Restore(_))
    }

    /// It is up: the next one of its kind is to come up faster.
    pub(crate) fn succeeded(&self) {
        if !self.is_restored() {
            self.templates.prepare(&self.spec);
        }
    }
}

/// Whether the guest gave no sign of life; one that fails says why, and would fail again.
fn is_silence(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Sandbox {
            source: SandboxError::BootTimeout { .. },
            ..
        }
    )
}
