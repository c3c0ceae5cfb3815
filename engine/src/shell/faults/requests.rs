//! Requests that inject, list and end faults.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::limits::FAULTS_MAX;
use hedgerow_wire::messages::{ActiveFault, Fault, FaultAnswer, FaultKind, FaultPlace, FaultRequest};
use hedgerow_wire::time::Timestamp;

use super::super::clock;
use super::super::connection::Connection;
use super::super::control::{body_of, on_core, send_message};
use super::super::core::Core;
use super::{Faults, Injected};

/// Faults that were injected into this process: the next one's number is one more.
static INJECTED: AtomicU64 = AtomicU64::new(0);

/// Answers a fault request.
pub async fn answer(connection: &Rc<Connection>, header: &FrameHeader, body: &[u8]) {
    let core = &connection.core;
    if !core.shared.settings.allow_faults {
        let message = "faults are not allowed here: start the daemon with --allow-faults";
        return connection.send_error(Op::Fault, header.request_id, Status::Refused, message);
    }
    let Some(request) = body_of::<FaultRequest>(connection, header, body) else { return };
    let mut id = 0;
    match request {
        FaultRequest::Inject(fault) => match inject(core, fault).await {
            Ok(number) => id = number,
            Err(message) => {
                return connection.send_error(Op::Fault, header.request_id, Status::BadRequest, &message);
            }
        },
        FaultRequest::Clear { id } => {
            on_all_cores(core, move |there| each(there, |faults| faults.clear(Some(id)))).await;
        }
        FaultRequest::ClearAll => {
            on_all_cores(core, |there| each(there, |faults| faults.clear(None))).await;
        }
        FaultRequest::List => {}
    }
    send_message(connection, header, &FaultAnswer { id, faults: active(core).await });
}

/// What a core counts of its faults.
pub fn counters(core: &Core) -> [(String, u64); 2] {
    let now = clock::timestamp();
    let (mut hits, mut active) = (0, 0);
    for shard in core.shards.borrow().values() {
        let mut faults = shard.faults.borrow_mut();
        hits += faults.hits();
        active += faults.list(now).len() as u64;
    }
    let mut faults = core.connections.faults.borrow_mut();
    hits += faults.hits();
    // Every core has the faults of connections.
    if core.id == 0 {
        active += faults.list(now).len() as u64;
    }
    [("fault_hits".to_owned(), hits), ("faults_active".to_owned(), active)]
}

fn each(core: &Rc<Core>, mut job: impl FnMut(&mut Faults)) {
    core.shards.borrow().values().for_each(|shard| job(&mut shard.faults.borrow_mut()));
    job(&mut core.connections.faults.borrow_mut());
}

/// What `job` gives on each core that still runs.
async fn on_all_cores<T: Send + 'static>(
    core: &Rc<Core>,
    job: impl Fn(&Rc<Core>) -> T + Send + Clone + 'static,
) -> Vec<T> {
    let mut given = Vec::new();
    for id in 0..core.shared.settings.cores.len() {
        given.extend(on_core(core, id, job.clone()).await);
    }
    given
}

/// Injects a fault where it belongs; the number that it gets.
async fn inject(core: &Rc<Core>, fault: Fault) -> Result<u64, String> {
    if active(core).await.len() >= FAULTS_MAX {
        return Err(format!("{FAULTS_MAX} faults are active, which is as many as there may be"));
    }
    let lasts_ms = match fault.kind {
        FaultKind::Stall { stall_ms } => stall_ms.min(fault.duration_ms),
        _ => fault.duration_ms,
    };
    let id = INJECTED.fetch_add(1, Ordering::Relaxed) + 1;
    let until = clock::timestamp() + Duration::from_millis(u64::from(lasts_ms));
    let injected = Injected { id, fault, until, hits: 0 };
    let FaultPlace::Shard(shard) = fault.place else {
        on_all_cores(core, move |there| there.connections.faults.borrow_mut().inject(injected)).await;
        return Ok(id);
    };
    let shards = &core.shared.shard_cores;
    let Some(&owner) = shards.get(usize::from(shard)) else {
        return Err(format!("there is no shard {shard}: they are 0 to {}", shards.len() - 1));
    };
    let done = on_core(core, owner, move |there| {
        let shard = there.shards.borrow().get(&shard).cloned();
        shard.map(|shard| shard.faults.borrow_mut().inject(injected)).is_some()
    });
    match done.await {
        Some(true) => Ok(id),
        _ => Err(format!("shard {shard} is set aside")),
    }
}

/// All that are active, in the order in which they were injected. Hits on connections are summed over the cores.
async fn active(core: &Rc<Core>) -> Vec<ActiveFault> {
    let now = clock::timestamp();
    let listed = on_all_cores(core, move |there| {
        let mut listed = Vec::new();
        each(there, |faults| listed.extend_from_slice(faults.list(now)));
        listed
    });
    let mut active: Vec<ActiveFault> = Vec::new();
    for injected in listed.await.iter().flatten() {
        match active.iter_mut().find(|known| known.id == injected.id) {
            Some(known) => known.hits += injected.hits,
            None => active.push(described(injected, now)),
        }
    }
    active.sort_by_key(|fault| fault.id);
    // Several that were injected at the same moment may be more.
    active.truncate(FAULTS_MAX);
    active
}

fn described(injected: &Injected, now: Timestamp) -> ActiveFault {
    let remaining_ms = (injected.until.since(now).as_millis() as u32).max(1);
    ActiveFault { id: injected.id, fault: injected.fault, remaining_ms, hits: injected.hits }
}
