//! Giving a container another name.

use std::sync::Arc;

use crate::container::Live;
use crate::engine::Shared;
use crate::{EngineError, Result, networks};

/// Gives a container another name, which nobody has.
pub(crate) async fn rename(shared: &Arc<Shared>, live: &Arc<Live>, name: &str) -> Result<()> {
    let _operation = live.operation.lock().await;
    let old = live.record().name.clone();
    let bare = name.strip_prefix('/').unwrap_or(name);
    if bare.is_empty() {
        return Err(EngineError::Invalid(
            "Neither old nor new names may be empty".into(),
        ));
    }
    if bare == old {
        return Err(EngineError::Invalid(
            "Renaming a container with the same name as its current name".into(),
        ));
    }
    let name = shared
        .registry
        .take_name(live, &format!("/{bare}"))
        .map_err(EngineError::within("Error when allocating new name"))?;
    let renamed = live.change_record(|record| {
        record.name.clone_from(&name);
        record.config.name = Some(name.clone());
    });
    // The one of the two that it does not have is free.
    match renamed.await {
        Ok(()) => shared.registry.give_back(&old),
        Err(error) => {
            shared.registry.give_back(&name);
            return Err(error);
        }
    }
    if !live.watch().borrow().record.endpoints.is_empty() {
        networks::renamed(shared, live).await;
    }
    live.tell("rename", [("oldName", format!("/{old}"))]);
    Ok(())
}
