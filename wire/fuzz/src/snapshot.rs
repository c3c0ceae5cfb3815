//! The snapshot of an index.

use hedgerow_engine::slab::snapshot::{Snapshot, SnapshotId, decode, encode_to_vec, layout};
use hedgerow_wire::{KeyHash, Record};

use crate::reseal;

/// A snapshot that is decoded is encoded to the same bytes, and its index works.
pub fn snapshot(bytes: &[u8]) {
    check(bytes);
    let mut sealed = bytes.to_vec();
    reseal::index_snapshot(&mut sealed);
    check(&sealed);
}

fn check(bytes: &[u8]) {
    if bytes.len() < layout::LEN {
        assert!(decode(bytes, &SnapshotId { shard_id: 0, nonce: 0 }).is_err());
        return;
    }
    let id = SnapshotId {
        shard_id: reseal::u128_at(bytes, layout::SHARD_ID),
        nonce: reseal::u64_at(bytes, layout::NONCE),
    };
    assert!(
        decode(bytes, &SnapshotId { nonce: !id.nonce, ..id }).is_err(),
        "a snapshot of another stop is taken"
    );
    let Ok(Snapshot { mut index, extra }) = decode(bytes, &id) else { return };
    let mut again = Vec::new();
    encode_to_vec(&index, &id, &extra, &mut again);
    assert!(again == bytes, "a snapshot is encoded to other bytes");
    use_index(&mut index);
}

/// Whatever slots an index was given, what is put into it is found again.
fn use_index(index: &mut hedgerow_engine::slab::index::Index) {
    let len = index.len();
    assert_eq!(index.entries(index.highest_hlc()).count(), len);
    let Some(entry) = index.entries(index.highest_hlc()).next() else { return };
    let (hash, record) = (KeyHash(0x5eed), Record::OBJECT);
    if let Ok(replaced) = index.insert(hash, record, &entry) {
        assert_eq!(index.len(), len + usize::from(replaced.is_none()));
        let found = index.get(hash, record, entry.hlc);
        assert_eq!(
            found.map(|found| (found.slab, found.offset, found.hlc)),
            Some((entry.slab, entry.offset, entry.hlc))
        );
        assert!(index.remove_at(hash, record, entry.slab, entry.offset), "what was found is not removed");
    }
}
