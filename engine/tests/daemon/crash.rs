//! SIGKILL in the middle of writes, again and again: what was acknowledged as `written` is there.
//!
//! The long form: `HEDGEROW_KILLS=100 cargo test -p hedgerow-engine --test daemon crash -- --nocapture`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use hedgerow_client::{Client, Error, Object};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::content::{assert_same, content, random};
use crate::harness::{BOUND, Setup, counter};

/// Kills in the ordinary test.
const KILLS: usize = 10;
/// A folder is used for so many kills, so that less than half of what fits is ever written.
const KILLS_OF_A_FOLDER: usize = 10;
/// Acknowledged writes between two kills, at most.
const WRITES_MAX: usize = 250;
const WRITERS: usize = 8;
const KEYS_OF_A_WRITER: u64 = 60;

/// What a key may hold: `None` is nothing.
type Value = Option<(u64, usize)>;

/// What is known of a key from its one writer.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Value,
    /// Later writes whose outcome is not known, in order: any of them may be found, now or later.
    doubtful: Vec<Value>,
    /// What was done with it, for people.
    history: Vec<String>,
}

type Model = Rc<RefCell<BTreeMap<String, Known>>>;

struct Progress {
    acknowledged: std::cell::Cell<usize>,
    enough: tokio::sync::Notify,
    goal: usize,
}

fn random_len(random: &mut SmallRng) -> usize {
    match random.random_range(0..100) {
        0..70 => random.random_range(0..20_000),
        70..95 => random.random_range(20_000..300_000),
        _ => random.random_range(1_000_000..3_000_000),
    }
}

/// Writes, overwrites and deletes its own keys until the daemon is gone.
async fn write(client: Client, writer: usize, mut random: SmallRng, model: Model, progress: Rc<Progress>) {
    loop {
        let key = format!("{writer}-{}", random.random_range(0..KEYS_OF_A_WRITER));
        let value = (random.random_range(0..10) > 0).then(|| (random.random(), random_len(&mut random)));
        model.borrow_mut().entry(key.clone()).or_default().doubtful.push(value);
        let written = match value {
            Some((seed, len)) => client.put(&key, content(seed, len)).await.map(|stored| stored.version),
            None => client.delete(&key).await,
        };
        match written {
            Ok(version) => {
                if let Some(known) = model.borrow_mut().get_mut(&key) {
                    known.history.push(format!("{value:?} was acknowledged as {version}"));
                    known.acknowledged = value;
                    known.doubtful.clear();
                }
                progress.acknowledged.set(progress.acknowledged.get() + 1);
                if progress.acknowledged.get() == progress.goal {
                    progress.enough.notify_one();
                }
            }
            Err(Error::Indeterminate { .. } | Error::Disconnected { .. } | Error::Connect { .. }) => {
                if let Some(known) = model.borrow_mut().get_mut(&key) {
                    known.history.push(format!("{value:?} was not acknowledged"));
                }
                return;
            }
            Err(error) => panic!("{key}: {error}"),
        }
    }
}

/// Reads a key until what is found is confirmed: on a busy machine a target may be late, and what was
/// answered without it may be older, as it says.
async fn confirmed(client: &Client, key: &str) -> Result<Option<Object>, Error> {
    let begun = Instant::now();
    loop {
        match client.get(key).await? {
            Some(object) if object.unconfirmed && begun.elapsed() < BOUND => {}
            found => {
                assert!(!found.as_ref().is_some_and(|object| object.unconfirmed), "{key} stays unconfirmed");
                return Ok(found);
            }
        }
    }
}

/// Compares every key with what is known; what is found is known from then on.
async fn check(client: &Client, model: &Model, what: &str) {
    let keys: Vec<String> = model.borrow().keys().cloned().collect();
    let mut acknowledged = 0;
    for key in keys {
        let known = model.borrow()[&key].clone();
        let read =
            confirmed(client, &key).await.unwrap_or_else(|error| panic!("{what}: {key}: {error}: {known:?}"));
        let is = |value: Value| match (value, &read) {
            (None, None) => true,
            (Some((seed, len)), Some(object)) => object.bytes == content(seed, len),
            _ => false,
        };
        let place = known.doubtful.iter().rposition(|&doubtful| is(doubtful));
        let fits = place.is_some() || is(known.acknowledged)
            // While a new object is not whole, the old one may be a miss.
            || (!known.doubtful.is_empty() && read.is_none());
        if !fits {
            let found = read.as_ref().map(|object| (object.bytes.len(), object.version));
            panic!("{what}: {key}: found {found:?}, known {known:#?}, {:#?}", client.stat(&key).await);
        }
        acknowledged += usize::from(known.doubtful.is_empty());
        if let Some(known) = model.borrow_mut().get_mut(&key) {
            known.history.push(format!("{what}: {:?} was found", read.map(|object| object.bytes.len())));
            // What was found whole is there from then on; a miss may yet turn out to be any of them.
            if let Some(place) = place.filter(|&place| known.doubtful[place].is_some()) {
                known.acknowledged = known.doubtful[place];
                known.doubtful.drain(..=place);
            }
        }
    }
    println!("{what}: {acknowledged} acknowledged states are as they were");
}

/// One life: reads what the last one has left, then writes until it is killed.
async fn live_and_die(setup: &Setup, model: &Model, random: &mut SmallRng, what: &str) {
    let daemon = setup.start();
    let client = daemon.client().await;
    check(&client, model, what).await;
    let goal = random.random_range(1..=WRITES_MAX);
    let progress =
        Rc::new(Progress { acknowledged: Default::default(), enough: tokio::sync::Notify::new(), goal });
    let local = tokio::task::LocalSet::new();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let random = rand::SeedableRng::seed_from_u64(random.random());
            let writing = write(client.clone(), writer, random, model.clone(), progress.clone());
            local.spawn_local(writing)
        })
        .collect();
    local
        .run_until(async {
            progress.enough.notified().await;
            // The writers are in the middle of whatever they are in.
            daemon.kill();
            for writer in writers {
                writer.await.unwrap();
            }
        })
        .await;
}

async fn kill_again_and_again(name: &str, make: impl Fn() -> Setup) {
    let kills = std::env::var("HEDGEROW_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut random = random(name);
    let mut done = 0;
    while done < kills {
        let setup = make();
        let model = Model::default();
        let lives = (kills - done).min(KILLS_OF_A_FOLDER);
        for life in 0..lives {
            live_and_die(&setup, &model, &mut random, &format!("kill {}", done + life)).await;
        }
        let daemon = setup.start();
        let client = daemon.client().await;
        check(&client, &model, "the last life").await;
        assert_eq!(counter(&client, "store_slabs_evicted").await, 0, "nothing was evicted");
        done += lives;
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_sigkill() {
    kill_again_and_again("nothing_acknowledged_is_lost_by_sigkill", || Setup::new("4+2").shard_size("1G"))
        .await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_sigkill_on_two_cores_with_memory() {
    let name = "nothing_acknowledged_is_lost_by_sigkill_on_two_cores_with_memory";
    kill_again_and_again(name, || Setup::new("2+1").memory("64M").shard_size("1G").two_cores()).await;
}

#[tokio::test]
async fn a_kill_while_the_first_files_are_made_leaves_a_folder_that_starts() {
    let setup = Setup::new("2+1");
    for _ in 0..5 {
        setup.start().kill();
    }
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", content(1, 5000)).await.unwrap();
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    assert_same("object", &client.get("object").await.unwrap().unwrap().bytes, &content(1, 5000));
}
