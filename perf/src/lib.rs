//! Performance runs and micro-benches.
