//! What a running container uses.

use jiff::Timestamp;
use sandbox::Usage;

use crate::{Engine, EngineError, Result};

/// What a container had used and used at a moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was read.
    pub time: Timestamp,
    /// What its guest said; `None` if it does not run.
    pub usage: Option<Usage>,
}

impl Engine {
    /// What a container uses at this moment.
    pub async fn sample(&self, name: &str) -> Result<Sample> {
        let live = self.find(name)?;
        let usage = match live.run().filter(|_| live.is_up()) {
            Some(run) => match run.sandbox.guest().usage().await {
                Ok(usage) => Some(usage),
                // It has ended meanwhile.
                Err(_) if !live.is_up() => None,
                Err(source) => {
                    return Err(EngineError::Sandbox {
                        action: "measure",
                        id: live.id().to_owned(),
                        source,
                    });
                }
            },
            None => None,
        };
        Ok(Sample {
            time: Timestamp::now(),
            usage,
        })
    }
}
