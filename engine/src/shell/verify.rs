//! Verification of a running shard: reads every slab and checks every part that the index points to.

use std::rc::Rc;

use hedgerow_wire::messages::{VerifyAnswer, VerifyRequest};
use hedgerow_wire::time::Timestamp;

use super::control::on_core_async;
use super::core::Core;

/// Checks the next parts of a shard, on the shard's own core.
pub async fn run(
    core: &Rc<Core>,
    request: VerifyRequest,
    deadline: Timestamp,
) -> Result<VerifyAnswer, String> {
    let Some(&owner) = core.shared.shard_cores.get(usize::from(request.shard)) else {
        return Err(format!("there is no shard {}", request.shard));
    };
    let checked =
        on_core_async(core, owner, move |there| async move { check(&there, request, deadline).await });
    checked.await.unwrap_or_else(|| Err("the daemon is stopping".to_owned()))
}

async fn check(
    core: &Rc<Core>,
    request: VerifyRequest,
    _deadline: Timestamp,
) -> Result<VerifyAnswer, String> {
    let Some(_shard) = core.shards.borrow().get(&request.shard).cloned() else {
        return Err(format!("shard {} is set aside", request.shard));
    };
    Err("not here".to_owned())
}
