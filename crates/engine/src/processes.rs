//! The processes of a running container.

use jiff::Timestamp;
use sandbox::{ProcessClock, ProcessInfo, SandboxError, Task};

use crate::exec_process::next_process;
use crate::{Engine, EngineError, Result, Status};

/// How many processes are told: no person reads more, and the guest may be anybody's.
const MOST: usize = 32 * 1024;

/// The processes of a container at a moment.
#[derive(Clone, Debug)]
pub struct ProcessList {
    /// When they were looked at.
    pub time: Timestamp,
    /// What their numbers are measured by.
    pub clock: ProcessClock,
    /// The processes, in the order of their ids.
    pub processes: Vec<ProcessInfo>,
}

impl Engine {
    /// The processes of a running container.
    pub async fn processes(&self, name: &str) -> Result<ProcessList> {
        let live = self.find(name)?;
        if live.status() == Status::Restarting {
            return Err(EngineError::Restarting(live.id().to_owned()));
        }
        let sandbox = live.running("")?.sandbox;
        let failed = |source| EngineError::Sandbox {
            action: "list the processes of",
            id: live.id().to_owned(),
            source,
        };
        let list = async {
            let mut task = sandbox.start_task(next_process(), Task::Processes).await?;
            let clock = task.read_frame::<ProcessClock>().await?;
            let mut processes = Vec::new();
            while let Some(process) = task.read_frame().await? {
                if processes.len() < MOST {
                    processes.push(process);
                }
            }
            task.end().await?;
            Ok::<_, SandboxError>((clock.unwrap_or_default(), processes))
        };
        let (clock, processes) = list.await.map_err(failed)?;
        live.tell("top", []);
        Ok(ProcessList {
            time: Timestamp::now(),
            clock,
            processes,
        })
    }
}
