//! The stored inputs: `corpus/TARGET/seed-*`, which the encoders give, and `corpus/TARGET/found-*`, which broke a
//! promise. `HEDGEROW_CORPUS_WRITE=1` writes the first kind anew after a change of a layout that is meant.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use hedgerow_fuzz::seeds;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target)
}

/// Every input of a target, by its file's name.
pub fn read(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target} has no corpus");
    inputs
}

/// The stored seeds of a target are those that the encoders give.
pub fn check_seeds(target: &str) {
    let seeds: BTreeMap<String, Vec<u8>> =
        seeds::of(target).into_iter().map(|(name, bytes)| (format!("seed-{name}"), bytes)).collect();
    if std::env::var_os("HEDGEROW_CORPUS_WRITE").is_some() {
        fs::create_dir_all(folder(target)).unwrap();
        seeds.iter().for_each(|(name, bytes)| fs::write(folder(target).join(name), bytes).unwrap());
    }
    let stored = read(target).into_iter().filter(|(name, _)| name.starts_with("seed-"));
    assert!(seeds == stored.collect(), "the seeds of {target} are not those of the encoders");
}
