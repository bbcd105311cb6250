//! The time between the fork of a process and its program, and what else has its time.

use std::time::{Duration, Instant};

use guest_protocol::{CallError, Event, ProcessId, Reply};
use rustix::event::Timespec;

use super::Agent;
use super::calls::failed;
use crate::poll::Watched;
use crate::process::Process;
use crate::report::{self, Report};

/// How long a process may take from its fork to its exec. Only a container that works against its own `exec` needs
/// longer: by a working directory on a FUSE mount that never answers, say.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A process between its fork and its exec. Requests wait for it.
pub(super) struct Starting {
    pub(super) process: ProcessId,
    request: u64,
    generation: u64,
    report: Watched,
    deadline: Instant,
    timed_out: bool,
}

impl Starting {
    /// One that was forked right now, for a request that came on the connection of this `generation`.
    pub(super) fn new(process: ProcessId, request: u64, generation: u64, report: Watched) -> Self {
        Self {
            process,
            request,
            generation,
            report,
            deadline: Instant::now() + START_LIMIT,
            timed_out: false,
        }
    }
}

impl Agent {
    /// Hears what the process that is being started has to say.
    pub(super) fn read_reports(&mut self) {
        while let Some(starting) = &self.starting {
            match report::receive(&starting.report) {
                Ok(None) => return,
                Ok(Some(Report::Terminal(controller))) => {
                    if let Some(process) = self.processes.get_mut(&starting.process)
                        && let Err(error) = process.set_terminal(&self.poller, controller)
                    {
                        self.give_up_start(failed(format!("cannot watch the terminal: {error}")));
                    }
                }
                Ok(Some(Report::Failed(error))) => self.give_up_start(error),
                Ok(Some(Report::Closed)) if starting.timed_out => {
                    let limit = START_LIMIT.as_secs();
                    self.give_up_start(failed(format!(
                        "the process did not reach its program within {limit} s"
                    )));
                }
                Ok(Some(Report::Closed)) => self.finish_start(),
                Err(error) => {
                    self.give_up_start(failed(format!("cannot read the process's report: {error}")))
                }
            }
        }
    }

    /// The process runs its program.
    fn finish_start(&mut self) {
        let Some(start) = self.starting.take() else {
            return;
        };
        let Some(process) = self.processes.get(&start.process) else {
            return;
        };
        let state = process.state();
        self.respond(
            start.request,
            start.generation,
            Ok(Reply::Started { pid: state.pid }),
        );
        if let Some(status) = state.exited {
            self.announce(Event::Exited {
                process: start.process,
                status,
            });
        }
    }

    /// The process never came to run its program: it is as if it had not been there.
    fn give_up_start(&mut self, error: CallError) {
        let Some(start) = self.starting.take() else {
            return;
        };
        if let Some(process) = self.processes.remove(&start.process)
            && !process.has_ended()
        {
            process.kill();
            self.failed.push(process);
        }
        if self.init == Some(start.process) {
            self.init = None;
        }
        self.respond(start.request, start.generation, Err(error));
    }

    /// How long nothing is to be done unless something happens.
    pub(super) fn time_left(&self) -> Option<Timespec> {
        let starting = self.starting.as_ref().filter(|starting| !starting.timed_out);
        let rests = self.processes.values().filter_map(Process::rest_until);
        let next = rests.chain(starting.map(|starting| starting.deadline)).min()?;
        Timespec::try_from(next.saturating_duration_since(Instant::now())).ok()
    }

    /// Does what its time has come for.
    pub(super) fn keep_time(&mut self) {
        let resting = self
            .processes
            .values_mut()
            .filter(|process| process.rest_until().is_some());
        for process in resting {
            process.end_rests(Instant::now());
        }
        self.enforce_start_limit();
    }

    fn enforce_start_limit(&mut self) {
        let Some(starting) = &mut self.starting else {
            return;
        };
        if !starting.timed_out && Instant::now() >= starting.deadline {
            starting.timed_out = true;
            if let Some(process) = self.processes.get(&starting.process) {
                process.kill();
            }
        }
    }
}
