//! Mailboxes between two cores: nanoseconds for a message there and back, and for one of many in one direction:
//! the median [quartiles] of the samples.
//!
//! `cargo bench -p hedgerow-perf --bench mailbox`; it needs two cores. "awake": both cores look for work all the time,
//! as those of a busy daemon do. "asleep": each has gone to sleep when the message comes, and is woken through its
//! ring; that is mostly the machine's price of a wake-up.
#![allow(clippy::print_stdout, reason = "what it measures")]

use std::rc::Rc;
use std::time::Instant;

use glommio::channels::shared_channel::{self, ConnectedReceiver, SharedReceiver, SharedSender};
use glommio::{LocalExecutorBuilder, Placement};
use hedgerow_engine::shell::limits::{MAILBOX_MESSAGES, SPIN_RUNTIME, TURN};
use hedgerow_engine::shell::mailbox::Outbox;

/// About as large as a question to a shard.
type Letter = [u64; 16];

/// Samples, and letters of each.
const SAMPLES: usize = 40;
const LETTERS: u64 = 5_000;
/// In place of a letter's number: the last one of all.
const GOODBYE: u64 = 0;

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
    // Each end waits for the other one: both are connected side by side.
    let runs = outbox.clone();
    glommio::spawn_local(async move { runs.run(sender.connect().await).await }).detach();
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

/// Nanoseconds a letter, of each sample. Both cores run through all of them: starting one costs more than a sample.
fn exchange(what: Exchange, awake: bool) -> Vec<f64> {
    let (there, from_there) = shared_channel::new_bounded(MAILBOX_MESSAGES);
    let (back, from_back) = shared_channel::new_bounded(MAILBOX_MESSAGES);
    let answered = move |number: u64| what == Exchange::Turns || number == LETTERS;
    let echo = core(1, awake, (back, from_there), async move |outbox, receiver| {
        loop {
            let letter = receiver.recv().await.expect("a letter");
            match letter[0] {
                GOODBYE => break,
                number if answered(number) => outbox.send(letter),
                _ => {}
            }
        }
    });
    #[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let timed = core(0, awake, (there, from_back), async move |outbox, receiver| {
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            let start = Instant::now();
            for number in 1..=LETTERS {
                outbox.send([number; 16]);
                if answered(number) {
                    let letter = receiver.recv().await.expect("an answer");
                    assert_eq!(letter[0], number);
                }
            }
            samples.push(start.elapsed().as_nanos() as f64 / LETTERS as f64);
        }
        outbox.send([GOODBYE; 16]);
        samples
    });
    let samples = timed.join().expect("the first core");
    echo.join().expect("the second core");
    samples
}

fn main() {
    for (name, what, awake) in [
        ("there and back, awake", Exchange::Turns, true),
        ("there and back, asleep", Exchange::Turns, false),
        ("one of many, awake", Exchange::Stream, true),
    ] {
        let mut samples = exchange(what, awake);
        samples.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 2, 3].map(|quarter| samples[SAMPLES * quarter / 4]);
        println!("{name:24} {median:8.0} ns a letter [{low:.0}..{high:.0}]");
    }
}
