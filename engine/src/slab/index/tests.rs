use super::*;

#[test]
fn a_record_is_found_until_it_is_removed() {
    let mut index = Index::with_capacity(1000, 7);
    let entry = Entry { slab: 3, offset: 640, blocks: 2, hlc: 1 << 47, tombstone: false, touched: false };
    assert_eq!(index.insert(KeyHash(1), Record::OBJECT, &entry), Ok(None));
    assert_eq!(index.get(KeyHash(1), Record::OBJECT, 1 << 47), Some(entry));
    assert_eq!(index.get(KeyHash(1), Record(1), 1 << 47), None);
    assert!(!index.remove_at(KeyHash(1), Record::OBJECT, 3, 704));
    assert!(index.remove_at(KeyHash(1), Record::OBJECT, 3, 640));
    assert_eq!(index.len(), 0);
}
