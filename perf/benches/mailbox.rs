//! Mailboxes between two cores: nanoseconds for a message there and back, and for one of many in one direction.
//!
//! `cargo bench -p hedgerow-perf --bench mailbox`; it needs two cores. "awake": both cores look for work all the time,
//! as those of a busy daemon do. "asleep": each has gone to sleep when the message comes, and is woken through its
//! ring; that is mostly the machine's price of a wake-up.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use glommio::channels::shared_channel::{self, ConnectedReceiver, SharedReceiver, SharedSender};
use glommio::{LocalExecutorBuilder, Placement};
use hedgerow_engine::shell::limits::{MAILBOX_MESSAGES, SPIN_RUNTIME, TURN};
use hedgerow_engine::shell::mailbox::Outbox;

/// About as large as a question to a shard.
type Letter = [u64; 16];

/// What goes between the cores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// One letter, its answer, the next one.
    Turns,
    /// All letters, and an answer to the last.
    Stream,
}

/// Both ends of a core: letters out, letters in.
async fn connect(
    sender: SharedSender<Letter>,
    receiver: SharedReceiver<Letter>,
) -> (Rc<Outbox<Letter>>, ConnectedReceiver<Letter>) {
    let outbox = Rc::new(Outbox::new());
    glommio::spawn_local(outbox.clone().run(sender.connect().await)).detach();
    (outbox, receiver.connect().await)
}

/// Runs a core with its end of the exchange.
fn core<T: Send + 'static>(
    number: usize,
    awake: bool,
    ends: (SharedSender<Letter>, SharedReceiver<Letter>),
    work: impl AsyncFnOnce(Rc<Outbox<Letter>>, ConnectedReceiver<Letter>) -> T + Send + 'static,
) -> glommio::ExecutorJoinHandle<T> {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(number)).spin_before_park(SPIN_RUNTIME);
    let run = move || async move {
        if awake {
            let stay = async {
                loop {
                    glommio::timer::sleep(TURN).await;
                }
            };
            glommio::spawn_local(stay).detach();
        }
        let (outbox, receiver) = connect(ends.0, ends.1).await;
        work(outbox, receiver).await
    };
    builder.spawn(run).expect("a core's executor")
}

/// How long so many letters take.
fn exchange(count: u64, what: Exchange, awake: bool) -> Duration {
    let (there, from_there) = shared_channel::new_bounded(MAILBOX_MESSAGES);
    let (back, from_back) = shared_channel::new_bounded(MAILBOX_MESSAGES);
    let echo = core(1, awake, (back, from_there), async move |outbox, receiver| {
        for number in 1..=count {
            let letter = receiver.recv().await.expect("a letter");
            if what == Exchange::Turns || number == count {
                outbox.send(letter);
            }
        }
        // Until the last one was taken.
        receiver.recv().await
    });
    #[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let timed = core(0, awake, (there, from_back), async move |outbox, receiver| {
        let start = Instant::now();
        for number in 1..=count {
            outbox.send([number; 16]);
            if what == Exchange::Turns || number == count {
                let letter = receiver.recv().await.expect("an answer");
                assert_eq!(letter[0], number);
            }
        }
        start.elapsed()
    });
    let elapsed = timed.join().expect("the first core");
    echo.join().expect("the second core");
    elapsed
}

fn mailbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox");
    group.throughput(Throughput::Elements(1));
    for (name, what, awake) in [
        ("there and back, awake", Exchange::Turns, true),
        ("there and back, asleep", Exchange::Turns, false),
        ("one of many, awake", Exchange::Stream, true),
    ] {
        group.bench_function(name, |bencher| bencher.iter_custom(|count| exchange(count, what, awake)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = mailbox
}
criterion_main!(benches);
