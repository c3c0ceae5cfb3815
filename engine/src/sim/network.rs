//! Links between members: frames that take their time, and get lost, late, doubled, damaged or cut off.
//!
//! A link carries what one member sends to another: its requests, and its answers to the other's requests.
//! What is lost breaks the connection of whoever waits for the answer, a while later, as a stream that does
//! not get through does.

use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::Key;
use hedgerow_wire::Target;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::FrameHeader;
use hedgerow_wire::part::PartDrop;
use hedgerow_wire::time::Timestamp;
use rand::Rng;
use rand::rngs::SmallRng;

use super::plan::LinkFault;

/// What is sent.
#[derive(Clone)]
pub(super) enum Packet {
    /// A frame.
    Frame(Rc<[u8]>),
    /// Parts that a target has let go, for their home. The protocol of members has no frame for it.
    Evicted(Target, Rc<[PartDrop]>),
}

/// A frame that came through the decoder, and where in it its body is.
pub(super) struct Received {
    pub(super) header: FrameHeader,
    pub(super) key: Option<Key>,
    pub(super) frame: Rc<[u8]>,
    pub(super) body_len: usize,
}

impl Received {
    /// The body.
    pub(super) fn body(&self) -> &[u8] {
        &self.frame[self.body_start()..]
    }

    /// Where in the frame the body starts.
    pub(super) fn body_start(&self) -> usize {
        self.frame.len() - self.body_len
    }
}

/// What becomes of a packet.
#[derive(Default)]
pub(super) struct Fate {
    /// When it arrives, and once more.
    pub(super) arrivals: [Option<(Timestamp, Packet)>; 2],
    /// It does not arrive: who waits for something finds its connection broken then.
    pub(super) broken_at: Option<Timestamp>,
}

struct Link {
    /// Those in effect, with their numbers.
    faults: Vec<(usize, LinkFault)>,
    /// When the last packet arrives: none overtakes another on a stream.
    last: Timestamp,
    decoder: Decoder,
}

/// Every link.
pub(super) struct Network {
    members: usize,
    links: Vec<Link>,
    /// Packets sent.
    pub(super) sent: u64,
}

impl Network {
    /// The links between so many members.
    pub(super) fn new(members: usize) -> Network {
        let link = || Link { faults: Vec::new(), last: Timestamp(0), decoder: Decoder::new() };
        Network { members, links: (0..members * members).map(|_| link()).collect(), sent: 0 }
    }

    fn link(&mut self, from: u8, to: u8) -> &mut Link {
        &mut self.links[usize::from(from) * self.members + usize::from(to)]
    }

    /// A fault takes effect.
    pub(super) fn begin_fault(&mut self, number: usize, from: u8, to: u8, fault: LinkFault) {
        self.link(from, to).faults.push((number, fault));
    }

    /// It ends.
    pub(super) fn end_fault(&mut self, number: usize, from: u8, to: u8) {
        self.link(from, to).faults.retain(|(other, _)| *other != number);
    }

    /// Sends a packet.
    pub(super) fn send(
        &mut self,
        from: u8,
        to: u8,
        packet: Packet,
        now: Timestamp,
        rng: &mut SmallRng,
    ) -> Fate {
        self.sent += 1;
        let link = self.link(from, to);
        let tail_us = if rng.random_range(0..200u32) == 0 { 2000 } else { 0 };
        let mut us = 15 + rng.random_range(0..20u64) + tail_us;
        let (mut lost, mut twice, mut ordered) = (false, false, true);
        let mut packet = packet;
        for &(_, fault) in &link.faults {
            match fault {
                LinkFault::Delay { us: more } => us += u64::from(more),
                LinkFault::Loss { share_ppm } => lost |= hits(share_ppm, rng),
                LinkFault::Duplicate { share_ppm } => twice |= hits(share_ppm, rng),
                LinkFault::Reorder { us: more } => {
                    us += rng.random_range(0..=u64::from(more));
                    ordered = false;
                }
                LinkFault::Damage { share_ppm } => {
                    if hits(share_ppm, rng) {
                        packet = damaged(packet, rng);
                    }
                }
                LinkFault::Cut => lost = true,
            }
        }
        if lost {
            let wait = Duration::from_micros(rng.random_range(20_000..200_000));
            return Fate { broken_at: Some(now + wait), ..Fate::default() };
        }
        let mut at = now + Duration::from_micros(us);
        if ordered {
            at = at.max(link.last);
        }
        link.last = link.last.max(at);
        let again = twice.then(|| (at + Duration::from_micros(rng.random_range(0..500)), packet.clone()));
        Fate { arrivals: [Some((at, packet)), again], broken_at: None }
    }

    /// Decodes a frame at the receiver; nothing if it is damaged. Where its framing is lost, the connection
    /// is made anew.
    pub(super) fn receive(&mut self, from: u8, to: u8, frame: Rc<[u8]>) -> Option<Received> {
        let decoder = &mut self.link(from, to).decoder;
        let mut input = &frame[..];
        let mut found = None;
        let mut body_len = 0;
        loop {
            match decoder.step(&mut input) {
                Ok(Step::Header { header, key }) => found = Some((header, key)),
                Ok(Step::Body(bytes)) => body_len += bytes.len(),
                Ok(Step::End) => break,
                Ok(Step::Refused { .. } | Step::NeedMore) | Err(_) => {
                    found = None;
                    break;
                }
            }
        }
        if !decoder.at_boundary() || found.is_none() {
            *decoder = Decoder::new();
        }
        found.map(|(header, key)| Received { header, key, body_len, frame })
    }
}

fn hits(share_ppm: u32, rng: &mut SmallRng) -> bool {
    rng.random_range(0..1_000_000) < share_ppm
}

/// The packet with a bit of its frame turned over.
fn damaged(packet: Packet, rng: &mut SmallRng) -> Packet {
    match packet {
        Packet::Frame(frame) => {
            let mut bytes = frame.to_vec();
            let bit = rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Packet::Frame(Rc::from(bytes))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_wire::encoder::write_frame;
    use hedgerow_wire::frame::Op;
    use rand::SeedableRng;

    use super::*;

    fn frame(id: u64, body: &[u8]) -> Packet {
        let mut bytes = Vec::new();
        write_frame(FrameHeader::request(Op::PartDrop, id), None, body, &mut bytes);
        Packet::Frame(Rc::from(bytes))
    }

    #[test]
    fn frames_arrive_in_order_and_whole() {
        let (mut network, mut rng) = (Network::new(2), SmallRng::seed_from_u64(1));
        let mut last = Timestamp(0);
        for id in 0..100 {
            let fate = network.send(0, 1, frame(id, &[id as u8; 9]), Timestamp(id * 1000), &mut rng);
            let [Some((at, Packet::Frame(bytes))), None] = fate.arrivals else { panic!("it arrives once") };
            assert!(at >= last && fate.broken_at.is_none());
            last = at;
            let received = network.receive(0, 1, bytes).expect("a frame");
            assert_eq!((received.header.request_id, received.body()), (id, &[id as u8; 9][..]));
        }
    }

    #[test]
    fn what_is_damaged_is_refused_and_what_follows_is_not() {
        let (mut network, mut rng) = (Network::new(2), SmallRng::seed_from_u64(2));
        network.begin_fault(0, 0, 1, LinkFault::Damage { share_ppm: 1_000_000 });
        for id in 0..200 {
            let fate = network.send(0, 1, frame(id, b"body"), Timestamp(0), &mut rng);
            let [Some((_, Packet::Frame(bytes))), None] = fate.arrivals else { panic!("it arrives once") };
            assert!(network.receive(0, 1, bytes).is_none());
        }
        network.end_fault(0, 0, 1);
        let fate = network.send(0, 1, frame(7, b"body"), Timestamp(0), &mut rng);
        let [Some((_, Packet::Frame(bytes))), None] = fate.arrivals else { panic!("it arrives once") };
        assert!(network.receive(0, 1, bytes).is_some_and(|received| received.body() == b"body"));
    }

    #[test]
    fn a_cut_link_breaks_the_connection() {
        let (mut network, mut rng) = (Network::new(2), SmallRng::seed_from_u64(3));
        network.begin_fault(4, 0, 1, LinkFault::Cut);
        let fate = network.send(0, 1, frame(1, b""), Timestamp(0), &mut rng);
        assert!(fate.arrivals[0].is_none() && fate.broken_at.is_some());
        let other_way = network.send(1, 0, frame(1, b""), Timestamp(0), &mut rng);
        assert!(other_way.arrivals[0].is_some());
    }
}
