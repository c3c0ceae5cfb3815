//! Async client of the Hedgerow object cache.
