//! `ONBUILD` of a stage that other stages begin with.

use super::{BuildStage, GraphError, Origin};
use crate::instruction::{Instruction, Statement};
use crate::limits::{MAX_FILE, MAX_INSTRUCTIONS};

/// What triggers of stages may take: each is carried out for every stage that begins with its own.
pub(super) struct TriggerBudget {
    instructions: usize,
    bytes: usize,
}

impl Default for TriggerBudget {
    fn default() -> Self {
        Self {
            instructions: MAX_INSTRUCTIONS,
            bytes: MAX_FILE,
        }
    }
}

impl TriggerBudget {
    fn take(&mut self, bytes: usize) -> Result<(), GraphError> {
        let left = (self.instructions.checked_sub(1), self.bytes.checked_sub(bytes));
        let (Some(instructions), Some(bytes)) = left else {
            return Err(GraphError::TooManyTriggers);
        };
        (self.instructions, self.bytes) = (instructions, bytes);
        Ok(())
    }
}

/// What the stage that another one begins with asks to be done first. Those that it had itself were for it alone.
pub(super) fn triggers_of(
    stages: &[BuildStage],
    base: &Origin,
    budget: &mut TriggerBudget,
) -> Result<Vec<Statement>, GraphError> {
    let Origin::Stage(base) = base else {
        return Ok(Vec::new());
    };
    let mut triggers = Vec::new();
    for statement in stages.get(*base).into_iter().flat_map(|stage| &stage.body) {
        if let Instruction::Onbuild(onbuild) = &statement.instruction {
            budget.take(onbuild.text.len())?;
            triggers.push((*onbuild.trigger).clone());
        }
    }
    Ok(triggers)
}
